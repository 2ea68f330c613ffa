package client

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
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

// answerAlike answers each request alike, as the daemon does: in order, and what has
// come at once with one write.
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

// BenchmarkClient has goroutines share a client, whose daemon, in a process of its
// own, answers at once. It reports what of the processor's time this process takes
// for a call, and its reads and writes.
func BenchmarkClient(b *testing.B) {
	socket := benchServer(b)
	for _, goroutines := range []int{1, 2, 8, 64, 1000} {
		b.Run(strconv.Itoa(goroutines), func(b *testing.B) {
			c := New(Config{Socket: socket})
			var reads, writes, conns atomic.Int64
			countConns(c, &reads, &writes, &conns)
			defer func() { _ = c.Close() }()
			claims := json.RawMessage(`{"sub":"alice","aud":"api","scope":"read write","client_id":"s6BhdRkqt3"}`)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			before := cpu()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range goroutines {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := c.SignJWT(b.Context(), api.SignJWTRequest{Key: "oidc", Claims: claims}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			per := func(n int64) float64 { return float64(n) / float64(b.N) }
			b.ReportMetric(per(int64(cpu()-before))/1e3, "cpu-µs/op")
			b.ReportMetric(per(reads.Load()), "reads/op")
			b.ReportMetric(per(writes.Load()), "writes/op")
			b.ReportMetric(float64(conns.Load()), "conns")
		})
	}
}

// cpu is the processor's time that this process has had.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
