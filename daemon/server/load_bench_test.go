package server

import (
	"bufio"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"signetd/daemon"
	"signetd/daemon/audit"
	"signetd/signer"
)

// An instantKey has its only signature ready, so that what a benchmark measures is the
// daemon.
type instantKey struct {
	signer.Signer
	signature []byte
}

// SignContext implements [signer.Signer].
func (k instantKey) SignContext(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
	return k.signature, nil
}

// benchServer serves one key, whose signatures are not verified: with a token that takes no
// time, or with a software key. It returns the socket and the log.
func benchServer(b *testing.B, sync audit.Sync, instant bool) (socket string, log *audit.Log) {
	b.Helper()
	backend := openSoftware(b)
	opened, err := backend.OpenKey(b.Context(), "generate:ec-p256")
	if err != nil {
		b.Fatal(err)
	}
	key := opened.(signer.Signer)
	if instant {
		digest := sha256.Sum256(nil)
		signature, err := key.SignContext(b.Context(), digest[:], crypto.SHA256)
		if err != nil {
			b.Fatal(err)
		}
		key = instantKey{key, signature}
	}
	v, err := signer.NewVersion(key, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, SkipVerify: true})
	if err != nil {
		b.Fatal(err)
	}
	setup := newSetup(b, backend)
	if setup.Ring, err = signer.NewRing([]signer.NamedKey{{Name: "oidc", Versions: []*signer.Version{v}}}); err != nil {
		b.Fatal(err)
	}

	dir := b.TempDir()
	socket = filepath.Join(dir, "s")
	if log, err = audit.Open(filepath.Join(dir, "audit.jsonl"), sync); err != nil {
		b.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	limits := daemon.Limits{InFlight: 64, PerPeer: 64}
	service := daemon.NewService(setup, daemon.Config{Limits: limits, Version: "test", Audit: log, Metrics: daemon.NewMetrics("test"), Log: quiet})
	server := New(service, Config{Limits: limits, Log: quiet})
	l, err := ListenUnix(SocketConfig{Path: socket, Mode: 0o600, GID: -1})
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = server.Serve(l) }() // ends with Shutdown
	b.Cleanup(func() {
		ctx := context.WithoutCancel(b.Context())
		if err := errors.Join(server.Shutdown(ctx), service.Close(ctx), log.Close()); err != nil {
			b.Error(err)
		}
	})
	return socket, log
}

// A benchPeer sends eight requests at a time, as a connection of the Go client does.
type benchPeer struct {
	net.Conn
	in *bufio.Reader
}

const together = 8

var eightRequests = func() string {
	body := `{"key":"oidc","claims":{"sub":"alice","aud":"api","scope":"read write","client_id":"s6BhdRkqt3"}}`
	return strings.Repeat(fmt.Sprintf("POST /v1/jwt/sign HTTP/1.1\r\nHost: signetd\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body), together)
}()

func dialPeer(b *testing.B, socket string) benchPeer {
	b.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return benchPeer{conn, bufio.NewReader(conn)}
}

// sign sends eight requests and reads the responses.
func (p benchPeer) sign() error {
	if _, err := io.WriteString(p, eightRequests); err != nil {
		return err
	}
	for range together {
		if err := p.skipResponse("200"); err != nil {
			return err
		}
	}
	return nil
}

// skipResponse reads a response, which must have the given status.
func (p benchPeer) skipResponse(status string) error {
	length := 0
	for first := true; ; first = false {
		line, err := p.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !strings.HasPrefix(string(line), "HTTP/1.1 "+status) {
			return fmt.Errorf("the response is %s", line)
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := strings.Cut(string(line), ":"); name == "Content-Length" {
			if length, err = strconv.Atoi(textproto.TrimString(value)); err != nil {
				return err
			}
		}
	}
	_, err := p.in.Discard(length)
	return err
}

// BenchmarkFastPath has the daemon sign JWTs with a token that takes no time: on the fast
// path, and through net/http.
func BenchmarkFastPath(b *testing.B) {
	socket, _ := benchServer(b, audit.SyncNever, true)
	for _, name := range []string{"fast", "net-http"} {
		b.Run(name, func(b *testing.B) {
			p := dialPeer(b, socket)
			if name == "net-http" {
				// An unusual request: net/http serves the rest of its connection, too.
				if _, err := io.WriteString(p, "PUT /v1/jwt/sign HTTP/1.1\r\nHost: signetd\r\nContent-Length: 0\r\n\r\n"); err != nil {
					b.Fatal(err)
				}
				if err := p.skipResponse("405"); err != nil {
					b.Fatal(err)
				}
			}

			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += together {
				if err := p.sign(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkGather has the daemon sign JWTs for 64 clients on eight connections, each record
// on the disk before its response leaves: with records that wait for those that are
// expected, and with records that go to the disk at once.
func BenchmarkGather(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4 * runtime.NumCPU())) // as cmd/signetd does
	for _, name := range []string{"gathered", "at-once"} {
		b.Run(name, func(b *testing.B) {
			socket, log := benchServer(b, audit.SyncAlways, false)
			if name == "at-once" {
				log.Expect(-1 << 30) // so that there is never one to wait for
			}
			var peers []benchPeer
			for range 8 {
				peers = append(peers, dialPeer(b, socket))
			}

			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for _, p := range peers {
				wg.Go(func() {
					for left.Add(-together) > -together {
						if err := p.sign(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
