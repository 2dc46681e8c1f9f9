package main

// The plugin protocol of prox (docs/reference/protocol.md): lines of JSON on stdin and stdout, hooks on a Unix socket.
// This file knows nothing of what the plugin does: take it as it is for a plugin of your own.

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

const (
	hookRequest = iota + 1
	hookResponse
	hookConnect
	hookDisconnect
)

// AllRoutes as the Route of a push reaches every route that has a balancer.
const AllRoutes = "*"

const (
	maxFrame  = 1 << 20         // bytes of a frame, either way
	lastCalls = 2 * time.Second // for the calls that run when prox ends the plugin
)

// Plugin holds the handlers; those that are nil are hooks that it does not serve. They are called from many goroutines
// at a time, OnConfigure from one. Set them before Run.
type Plugin struct {
	OnConfigure  func(Route) error
	OnRequest    func(*Request) Verdict
	OnResponse   func(*Request, *Response) Changes
	OnConnect    func(*Connection) bool
	OnDisconnect func(*Disconnect)

	mutex sync.Mutex
	out   io.Writer // nil: what is said waits in `held`
	held  []any
	calls sync.WaitGroup
}

// Route is a route that the plugin is bound to, with its patterns. ID is empty where it runs without one.
type Route struct {
	ID    string `json:"route_id"`
	Match struct {
		Domain string `json:"domain"`
		Path   string `json:"path"`
	} `json:"match"`
}

// Request is the client's request.
type Request struct {
	Route         string            `msgpack:"r"`
	Method        string            `msgpack:"m"`
	Path          string            `msgpack:"p"` // decoded, without the query
	Query         string            `msgpack:"q"`
	Domain        string            `msgpack:"d"`
	Host          string            `msgpack:"ho"`
	Proto         string            `msgpack:"pr"`
	Client        string            `msgpack:"a"`  // ip:port
	ContentLength int64             `msgpack:"cl"` // -1: not known
	Headers       map[string]string `msgpack:"h"`  // in canonical form, first values
	Body          []byte            `msgpack:"bd"` // the first 64 KiB
	MatchDomain   string            `msgpack:"md"`
	MatchGlob     string            `msgpack:"mg"`
	MatchPath     string            `msgpack:"mp"`
	Vars          map[string]string `msgpack:"v"`
	Target        string            `msgpack:"tg"`
}

// Header is the first value of a header; empty where it is missing.
func (r *Request) Header(name string) string {
	return r.Headers[textproto.CanonicalMIMEHeaderKey(name)]
}

// Verdict answers on_request. The zero value denies with 403.
type Verdict struct {
	Allow      bool              `msgpack:"ok"`
	Drop       bool              `msgpack:"dr,omitempty"`
	Fallback   bool              `msgpack:"fb,omitempty"`
	Status     int               `msgpack:"s,omitempty"`
	Body       string            `msgpack:"b,omitempty"`
	Headers    map[string]string `msgpack:"h,omitempty"` // for the upstream where Allow, for the client where not
	Speed      *Speed            `msgpack:"sp,omitempty"`
	StripQuery bool              `msgpack:"cq,omitempty"`
	Path       string            `msgpack:"rp,omitempty"`
}

// Speed in megabits a second; 0 is no limit.
type Speed struct {
	Download float64 `msgpack:"dl"`
	Upload   float64 `msgpack:"ul"`
	Group    string  `msgpack:"gk"`
}

// Response is the answer on its way to the client.
type Response struct {
	Status  int               `msgpack:"s"`
	Headers map[string]string `msgpack:"h"`
}

// Changes answers on_response. The zero value changes nothing.
type Changes struct {
	Status  int               `msgpack:"s,omitempty"`
	Headers map[string]string `msgpack:"h,omitempty"`
	Remove  []string          `msgpack:"rm,omitempty"`
}

// Connection is a TLS connection to be relayed unread.
type Connection struct {
	Route       string `msgpack:"r"`
	Domain      string `msgpack:"d"` // SNI
	Client      string `msgpack:"a"`
	MatchDomain string `msgpack:"md"`
	MatchGlob   string `msgpack:"mg"`
}

// Disconnect tells of the end of a request or of a relayed connection.
type Disconnect struct {
	Route        string `msgpack:"r"`
	Target       string `msgpack:"tg"`
	Client       string `msgpack:"a"`
	Received     int64  `msgpack:"rx"` // body bytes from the client
	Sent         int64  `msgpack:"tx"` // body bytes to the client
	Milliseconds int64  `msgpack:"ms"`
}

// Targets replaces targets: of one Route, of AllRoutes, or of the routes that use an Action. Groups are keyed lists.
type Targets struct {
	Route   string              `json:"route_id,omitempty"`
	Action  string              `json:"action,omitempty"`
	Targets []string            `json:"targets,omitempty"`
	Groups  map[string][]string `json:"groups,omitempty"`
}

// Speeds caps the bandwidth of new connections, in megabits a second; addressed as Targets are.
type Speeds struct {
	Route    string  `json:"route_id,omitempty"`
	Action   string  `json:"action,omitempty"`
	Download float64 `json:"download_mbps,omitempty"`
	Upload   float64 `json:"upload_mbps,omitempty"`
	Group    string  `json:"group_key,omitempty"`
}

type line struct {
	Method string `json:"method"`
	Params any    `json:"params"`
}

type ready struct {
	Socket string   `json:"socket"`
	Hooks  []string `json:"hooks"`
}

type logged struct {
	Level   string `json:"level"`
	Message string `json:"message"`
	Args    []any  `json:"args,omitempty"`
}

// SetTargets pushes targets, at any time and from any goroutine.
func (p *Plugin) SetTargets(targets Targets) { p.say(line{"set_targets", targets}) }

// SetSpeed pushes speeds.
func (p *Plugin) SetSpeed(speeds Speeds) { p.say(line{"set_speed", speeds}) }

// Log writes to prox's log; the level is debug, info, warn or error, the arguments are keys and values in turn.
func (p *Plugin) Log(level, message string, args ...any) {
	for i, arg := range args {
		if err, ok := arg.(error); ok {
			args[i] = err.Error()
		} else if _, err := json.Marshal(arg); err != nil {
			args[i] = fmt.Sprint(arg)
		}
	}
	p.say(line{"log", logged{level, message, args}})
}

// Run serves prox until it closes stdin.
func (p *Plugin) Run() error {
	out := os.Stdout
	os.Stdout = os.Stderr // stdout belongs to the protocol: what a library prints must not get there

	says := ready{Hooks: p.hooks()}
	if len(says.Hooks) > 0 {
		folder := os.Getenv("PROX_PLUGIN_DIR")
		if folder == "" { // another host than prox
			made, err := os.MkdirTemp("", "plugin-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(made)
			folder = made
		}
		says.Socket = filepath.Join(folder, "plugin.sock")
		listener, err := net.Listen("unix", says.Socket)
		if err != nil {
			return err
		}
		defer listener.Close()
		go p.accept(listener)
	}

	lines := bufio.NewReader(os.Stdin)
	for {
		raw, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			p.finish()
			return nil
		}
		if err != nil {
			return err
		}
		var request struct {
			Method string `json:"method"`
			Params Route  `json:"params"`
		}
		if err := json.Unmarshal(raw, &request); err != nil {
			fmt.Fprintln(os.Stderr, "a line from prox is no JSON:", err)
		} else if request.Method == "configure" {
			p.configure(request.Params, says, out)
		}
	}
}

func (p *Plugin) hooks() []string {
	hooks := []string{}
	add := func(served bool, name string) {
		if served {
			hooks = append(hooks, name)
		}
	}
	add(p.OnRequest != nil, "on_request")
	add(p.OnResponse != nil, "on_response")
	add(p.OnConnect != nil, "on_connect")
	add(p.OnDisconnect != nil, "on_disconnect")
	return hooks
}

// What is pushed meanwhile waits: it belongs behind the acknowledgement, and the first push behind `ready`.
func (p *Plugin) configure(route Route, says ready, out io.Writer) {
	p.mutex.Lock()
	p.out = nil
	p.mutex.Unlock()

	var refused error
	if p.OnConfigure != nil {
		refused = p.OnConfigure(route)
	}

	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.out = out
	if refused != nil {
		p.write(map[string]string{"error": refused.Error()})
	} else {
		p.write(map[string]string{"result": "ok"})
	}
	if len(says.Hooks) > 0 {
		p.write(line{"ready", says})
	}
	for _, held := range p.held {
		p.write(held)
	}
	p.held = nil
}

func (p *Plugin) say(message any) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.out == nil {
		p.held = append(p.held, message)
	} else {
		p.write(message)
	}
}

func (p *Plugin) write(message any) {
	text, err := json.Marshal(message)
	if err == nil {
		_, err = p.out.Write(append(text, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "a line is lost:", err)
	}
}

// Wait for the calls that run.
func (p *Plugin) finish() {
	done := make(chan struct{})
	go func() {
		p.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(lastCalls):
	}
}

func (p *Plugin) accept(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no more descriptors, for instance
			fmt.Fprintln(os.Stderr, "a connection can't be accepted:", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		go p.serve(connection)
	}
}

// One call after the other. A connection that ends without an answer tells prox that the call has failed.
func (p *Plugin) serve(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReader(connection)
	for {
		frame, err := readFrame(reader)
		if err == nil {
			err = p.call(connection, frame)
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "a call failed:", err)
			return
		}
	}
}

func readFrame(reader io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(reader, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", size)
	}
	frame := make([]byte, size)
	if _, err := io.ReadFull(reader, frame); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return frame, nil
}

func (p *Plugin) call(connection io.Writer, frame []byte) (err error) {
	p.calls.Add(1)
	defer p.calls.Done()
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v\n%s", reason, debug.Stack())
		}
	}()
	var call struct {
		Hook    int    `msgpack:"t"`
		Payload []byte `msgpack:"d"`
	}
	if err := msgpack.Unmarshal(frame, &call); err != nil {
		return err
	}
	result, err := p.answer(call.Hook, call.Payload)
	if err != nil || result == nil {
		return err
	}
	body, err := msgpack.Marshal(result)
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("an answer of %d bytes", len(body))
	}
	answer := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(answer, uint32(len(body)))
	_, err = connection.Write(append(answer, body...))
	return err
}

// The result of a hook; nil for on_disconnect, which is not answered.
func (p *Plugin) answer(hook int, payload []byte) (any, error) {
	switch {
	case hook == hookRequest && p.OnRequest != nil:
		var request Request
		if err := msgpack.Unmarshal(payload, &request); err != nil {
			return nil, err
		}
		return p.OnRequest(&request), nil
	case hook == hookResponse && p.OnResponse != nil:
		var pair struct {
			Request  Request  `msgpack:"req"`
			Response Response `msgpack:"resp"`
		}
		if err := msgpack.Unmarshal(payload, &pair); err != nil {
			return nil, err
		}
		return p.OnResponse(&pair.Request, &pair.Response), nil
	case hook == hookConnect && p.OnConnect != nil:
		var info Connection
		if err := msgpack.Unmarshal(payload, &info); err != nil {
			return nil, err
		}
		return map[string]bool{"ok": p.OnConnect(&info)}, nil
	case hook == hookDisconnect && p.OnDisconnect != nil:
		var event Disconnect
		if err := msgpack.Unmarshal(payload, &event); err != nil {
			return nil, err
		}
		p.OnDisconnect(&event)
		return nil, nil
	}
	return nil, fmt.Errorf("hook %d is not served", hook)
}
