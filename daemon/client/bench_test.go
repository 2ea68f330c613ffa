package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"signetd/daemon/api"
)

// benchServerEnv names the socket on which this binary, started by a benchmark,
// answers until its standard input ends.
const benchServerEnv = "SIGNETD_CLIENT_BENCH_SOCKET"

func TestMain(m *testing.M) {
	socket := os.Getenv(benchServerEnv)
	if socket == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}

	go func() { // until the process ends
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answerAlike(conn) // until the client closes
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// answerAlike gives each request the same answer, in the way of the daemon: in order, and
// with one write for all requests that have come.
func answerAlike(conn net.Conn) {
	const body = `{"token":"eyJhbGciOiJFUzI1NiIsImtpZCI6IjEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjMifQ.eyJzdWIiOiJhbGljZSIsImF1ZCI6ImFwaSIsInNjb3BlIjoicmVhZCB3cml0ZSIsImNsaWVudF9pZCI6InM2QmhkUmtxdDMifQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q","kid":"1234567890123456789012345678901234567890123"}` + "\n"
	text := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nRequest-Id: 0123456789abcdef\r\nDate: Wed, 25 Nov 2026 17:00:00 GMT\r\nContent-Length: %d\r\n\r\n%s", len(body), body)

	in := bufio.NewReaderSize(conn, 16<<10)
	var out []byte
	for {
		length := 0
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) <= 2 {
				break
			}
			if value, ok := cutHeader(line, "Content-Length: "); ok {
				length, _ = strconv.Atoi(value)
			}
		}
		if _, err := in.Discard(length); err != nil {
			return
		}

		out = append(out, text...)
		if in.Buffered() > 0 {
			continue
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
		out = out[:0]
	}
}

func cutHeader(line []byte, name string) (string, bool) {
	if len(line) < len(name) || string(line[:len(name)]) != name {
		return "", false
	}
	return string(textproto.TrimBytes(line[len(name):])), true
}

func benchServer(b *testing.B) (socket string) {
	b.Helper()
	dir, err := os.MkdirTemp("", "client") // its name is short enough for a socket
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchServerEnv+"="+socket)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })

	for range 1000 {
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			return socket
		}
		time.Sleep(5 * time.Millisecond)
	}
	b.Fatal("the server does not start")
	return ""
}

// BenchmarkClient has goroutines share a client, whose daemon, in a process of its own,
// answers at once. It reports the processor time that this process takes for a call: by
// package http1, and by net/http with the same JSON. It fails if net/http takes less.
func BenchmarkClient(b *testing.B) {
	socket := benchServer(b)
	req := api.SignJWTRequest{Key: "oidc", Claims: json.RawMessage(`{"sub":"alice","aud":"api","scope":"read write","client_id":"s6BhdRkqt3"}`)}
	for _, goroutines := range []int{1, 2, 8, 64, 1000} {
		var own, standard float64
		b.Run(fmt.Sprintf("%d/http1", goroutines), func(b *testing.B) {
			c := New(Config{Socket: socket})
			defer func() { _ = c.Close() }()
			own = measure(b, goroutines, func() error { _, err := c.SignJWT(b.Context(), req); return err })
		})
		b.Run(fmt.Sprintf("%d/net-http", goroutines), func(b *testing.B) {
			transport := &http.Transport{
				MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "unix", socket)
				},
			}
			defer transport.CloseIdleConnections()
			c := &http.Client{Transport: transport, Timeout: defaultTimeout}
			standard = measure(b, goroutines, func() error { return signByNetHTTP(b.Context(), c, &req) })
		})
		if own > 0 && standard > 0 && own > standard {
			b.Errorf("%d goroutines: %.1f µs a call by http1, %.1f by net/http", goroutines, own, standard)
		}
	}
}

// measure has goroutines make b.N calls, and reports and returns the processor time of
// one in microseconds.
func measure(b *testing.B, goroutines int, call func() error) float64 {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	before := cpu()
	b.ResetTimer()

	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()

	perCall := float64((cpu() - before).Nanoseconds()) / 1e3 / float64(b.N)
	b.ReportMetric(perCall, "cpu-µs/op")
	if b.N < 1000 {
		return 0 // too few to compare
	}
	return perCall
}

func signByNetHTTP(ctx context.Context, c *http.Client, req *api.SignJWTRequest) error {
	var body bytes.Buffer
	if err := encode(&body, req); err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://signetd"+api.SignJWT.Path, &body)
	if err != nil {
		return err
	}

	q.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	_, err = decode[api.SignJWTResponse](text)
	return err
}

// cpu returns the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
