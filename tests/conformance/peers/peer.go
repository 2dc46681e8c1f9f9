// Go's net/http as a server, or as a client of the requests that stand on stdin as JSON; see peers.py.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/early" {
		w.Header().Set("Connection", "close")
		w.WriteHeader(413)
		return
	}
	hash := sha256.New()
	size, err := io.Copy(hash, r.Body)
	if err != nil {
		return
	}
	switch r.URL.Path {
	case "/empty":
		w.WriteHeader(204)
	case "/chunked":
		for number := 0; number < 20; number++ {
			fmt.Fprintf(w, "%d\n", number)
			w.(http.Flusher).Flush()
		}
	case "/trailers":
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "abc")
	case "/hints":
		w.Header().Set("Link", "</style.css>; rel=preload; as=style")
		w.WriteHeader(103)
		io.WriteString(w, "hints")
	case "/big":
		w.Header().Set("Content-Length", "5000000")
		w.Write(bytes.Repeat([]byte("x"), 5_000_000))
	case "/close":
		w.Header().Set("Connection", "close")
		io.WriteString(w, "close")
	default:
		said, err := json.Marshal(map[string]any{
			"method": r.Method, "path": r.RequestURI, "size": size, "sum": hex.EncodeToString(hash.Sum(nil)),
		})
		must(err)
		w.Write(said)
	}
}

type item struct {
	Method, Path    string
	Size            int
	Chunked, Expect bool
}

type said struct {
	Status int    `json:"status"`
	Size   int    `json:"size"`
	Sum    string `json:"sum"`
	Text   string `json:"text"`
	Length string `json:"length"`
}

func send(client *http.Client, base string, it item) said {
	var body io.Reader
	if it.Size > 0 || it.Method == "POST" {
		body = bytes.NewReader(bytes.Repeat([]byte("x"), it.Size))
		if it.Chunked {
			body = io.MultiReader(body) // hides the length
		}
	}
	request, err := http.NewRequest(it.Method, base+it.Path, body)
	must(err)
	if it.Expect {
		request.Header.Set("Expect", "100-continue")
	}
	answer, err := client.Do(request)
	must(err)
	defer answer.Body.Close()
	all, err := io.ReadAll(answer.Body)
	must(err)
	sum := sha256.Sum256(all)
	result := said{answer.StatusCode, len(all), hex.EncodeToString(sum[:]), "", answer.Header.Get("Content-Length")}
	if len(all) < 1000 {
		result.Text = string(all)
	}
	return result
}

func main() {
	if os.Args[1] == "serve" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		fmt.Println(listener.Addr().(*net.TCPAddr).Port)
		must(http.Serve(listener, http.HandlerFunc(serve)))
	}
	var input struct {
		OneByOne []item `json:"one_by_one"`
		AtOnce   []item `json:"at_once"`
	}
	must(json.NewDecoder(os.Stdin).Decode(&input))
	client := &http.Client{Transport: &http.Transport{
		DisableCompression: true, ExpectContinueTimeout: 10 * time.Second, MaxConnsPerHost: 8,
	}}
	answers := make([]said, len(input.OneByOne)+len(input.AtOnce))
	for number, it := range input.OneByOne {
		answers[number] = send(client, os.Args[2], it)
	}
	var group sync.WaitGroup
	for number, it := range input.AtOnce {
		group.Add(1)
		go func() {
			defer group.Done()
			answers[len(input.OneByOne)+number] = send(client, os.Args[2], it)
		}()
	}
	group.Wait()
	must(json.NewEncoder(os.Stdout).Encode(answers))
}
