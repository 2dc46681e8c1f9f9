// What the Go plugin of tests/vectors did when it was recorded, on the protocol part of examples/go/guard.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

func main() {
	p := &Plugin{}
	p.OnConfigure = func(route Route) error {
		if route.Match.Path == "/refused" {
			return errors.New("not this one")
		}
		fmt.Println("what a library prints")
		p.SetTargets(Targets{Route: route.ID, Targets: []string{"127.0.0.1:9001", "127.0.0.1:9002"}})
		p.SetTargets(Targets{Route: route.ID, Groups: map[string][]string{"eu": {"127.0.0.1:9001"}, "us": {"127.0.0.1:9002"}}})
		p.SetTargets(Targets{Action: "backend", Targets: []string{"127.0.0.1:9003"}})
		p.SetTargets(Targets{Route: AllRoutes, Targets: []string{"127.0.0.1:9004"}})
		p.SetTargets(Targets{Action: "backend", Groups: map[string][]string{"k": {"127.0.0.1:9005"}}})
		p.SetSpeed(Speeds{Route: route.ID, Download: 10, Upload: 5, Group: "g"})
		p.SetSpeed(Speeds{Action: "backend", Download: 1.5})
		p.Log("info", "configured", "route", route.ID, "n", 3, "ok", true)
		return nil
	}
	p.OnRequest = func(r *Request) Verdict {
		switch r.Path {
		case "/deny":
			return Verdict{Status: 401, Body: "no", Headers: map[string]string{"WWW-Authenticate": "Bearer"}}
		case "/drop":
			return Verdict{Drop: true}
		case "/fallback":
			return Verdict{Fallback: true}
		case "/speed":
			return Verdict{Allow: true, Speed: &Speed{Download: 8, Upload: 4, Group: "user-1"}}
		case "/rewrite":
			return Verdict{Allow: true, Path: "/new", StripQuery: true}
		case "/plain", "/nil":
			return Verdict{Allow: true}
		case "/echo":
			echo := strings.Join([]string{r.Header("x-in"), r.Host, r.Query, string(r.Body)}, "|")
			return Verdict{Allow: true, Headers: map[string]string{"X-Echo": echo}}
		case "/panic":
			panic("as asked")
		case "/huge":
			return Verdict{Body: strings.Repeat("x", 2<<20)}
		}
		return Verdict{Allow: true, Headers: map[string]string{"X-User-ID": "u1"}}
	}
	p.OnResponse = func(request *Request, response *Response) Changes {
		if request.Path == "/plain" {
			return Changes{}
		}
		return Changes{Status: 203, Headers: map[string]string{"X-Mod": "1"}, Remove: []string{"Server"}}
	}
	p.OnConnect = func(connection *Connection) bool {
		return strings.HasPrefix(connection.Domain, "ok.")
	}
	if err := p.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
