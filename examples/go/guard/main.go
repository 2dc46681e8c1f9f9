// A plugin in Go that serves every hook: it asks for an API key, marks answers, lets connections through by name, counts
// bytes, and pushes targets and speeds.
package main

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

var keys = map[string]string{"k-alice": "alice", "k-bob": "bob"}

func main() {
	var sent atomic.Int64 // bytes to clients so far
	plugin := &Plugin{}

	// TARGETS, `host:port,host:port`, are the targets of the routes that this plugin is bound to.
	plugin.OnConfigure = func(route Route) error {
		if route.ID == "" {
			return fmt.Errorf("bind this plugin to a route")
		}
		if targets := os.Getenv("TARGETS"); targets != "" {
			plugin.SetTargets(Targets{Route: route.ID, Targets: strings.Split(targets, ",")})
		}
		plugin.SetSpeed(Speeds{Route: route.ID, Download: 800})
		plugin.Log("info", "bound", "route", route.ID, "path", route.Match.Path)
		return nil
	}

	plugin.OnRequest = func(request *Request) Verdict {
		user, known := keys[request.Header("X-Api-Key")]
		if !known {
			return Verdict{Status: 401, Body: "a key is needed\n"}
		}
		return Verdict{Allow: true, Headers: map[string]string{"X-User": user}}
	}

	plugin.OnResponse = func(request *Request, response *Response) Changes {
		return Changes{
			Headers: map[string]string{"X-Sent-Before": fmt.Sprint(sent.Load())},
			Remove:  []string{"Server"},
		}
	}

	plugin.OnConnect = func(connection *Connection) bool {
		return strings.HasSuffix(connection.Domain, ".example.com")
	}

	plugin.OnDisconnect = func(event *Disconnect) {
		total := sent.Add(event.Sent)
		plugin.Log("info", "ended", "route", event.Route, "total", total)
	}

	if err := plugin.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
