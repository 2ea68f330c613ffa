//go:build cgo && unix

package pkcs11_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// A load is 32 clients that sign without a pause.
type load struct {
	signed, failed atomic.Uint64
	other          atomic.Pointer[error] // an error that is not ErrUnavailable or ErrOverloaded
	last           atomic.Pointer[error] // one of those two
	ended          [32]atomic.Uint64     // requests of each client
	stop           chan struct{}
	clients        sync.WaitGroup
}

func startLoad(t *testing.T, k signer.Key) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for client := range l.ended {
		l.clients.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				err := signOnce(t, ctx, k)
				cancel()
				l.ended[client].Add(1)
				switch {
				case err == nil:
					l.signed.Add(1)
				case errors.Is(err, signer.ErrUnavailable) || errors.Is(err, signer.ErrOverloaded):
					l.failed.Add(1)
					l.last.Store(&err)
					time.Sleep(time.Millisecond) // as a client that heard 503 would
				default:
					l.failed.Add(1)
					l.other.Store(&err)
				}
			}
		})
	}
	return l
}

// settle waits until each client has ended a request that it began after now.
func (l *load) settle(t *testing.T) {
	t.Helper()
	for client := range l.ended {
		before := l.ended[client].Load()
		waitFor(t, func() bool { return l.ended[client].Load() >= before+2 })
	}
}

func (l *load) end() {
	close(l.stop)
	l.clients.Wait()
}

// TestFaultsUnderLoad is a table of what a token may answer, under the load of
// 32 clients on 4 sessions: how many requests failed, how long it took from the
// end of the fault to a signature, and how many logins it needed.
func TestFaultsUnderLoad(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	tests := []struct {
		rv       uint64
		at       uint64
		until    uint64
		outage   time.Duration // of a device, in which requests fail
		logins   uint64
		restarts uint64
	}{
		{p11.CKR_SESSION_HANDLE_INVALID, atSignInit | atSessionInfo, bySession, 0, 0, 0},
		{p11.CKR_SESSION_CLOSED, atSignInit | atSessionInfo, bySession, 0, 0, 0},
		{p11.CKR_OBJECT_HANDLE_INVALID, atSignInit, byFind, 0, 0, 0},
		{p11.CKR_KEY_HANDLE_INVALID, atSignInit, byFind, 0, 0, 0},
		{p11.CKR_USER_NOT_LOGGED_IN, atSignInit, byLogin, 0, 1, 0},
		{p11.CKR_OPERATION_ACTIVE, atSignInit, bySession, 0, 0, 0},
		{p11.CKR_DEVICE_ERROR, atSign, byCount, 0, 0, 0},
		{p11.CKR_DEVICE_ERROR, atAll, byInitialize, 0, 1, 1},
		{p11.CKR_DEVICE_ERROR, atAll, byInitialize, 300 * time.Millisecond, 1, 1},
		{p11.CKR_DEVICE_REMOVED, atAll, byInitialize, 0, 1, 1},
		{p11.CKR_DEVICE_REMOVED, atAll, byInitialize, 300 * time.Millisecond, 1, 1},
		{p11.CKR_DEVICE_MEMORY, atSign, byCount, 0, 0, 0},
		{p11.CKR_TOKEN_NOT_PRESENT, atAll, byInitialize, 0, 1, 1},
		{p11.CKR_TOKEN_NOT_PRESENT, atAll, byInitialize, 300 * time.Millisecond, 1, 1},
		{p11.CKR_GENERAL_ERROR, atSign, byCount, 0, 0, 0},
		{p11.CKR_GENERAL_ERROR, atAll, byInitialize, 0, 1, 1},
		{p11.CKR_CRYPTOKI_NOT_INITIALIZED, atAll, byInitialize, 0, 1, 1},
		{p11.CKR_HOST_MEMORY, atSign, byCount, 0, 0, 0},
		{p11.CKR_SESSION_COUNT, 0, 0, 0, 0, 0},
		{p11.CKR_FUNCTION_FAILED, atSign, byCount, 0, 0, 0},
	}
	table := []string{fmt.Sprintf("%-30s %-12s %-8s %8s %8s %12s %7s %9s", "answer", "until", "outage", "signed", "failed", "healthy in", "logins", "restarts")}
	names := []string{"always", "4 calls", "new session", "found again", "login", "initialised"}
	for _, tt := range tests {
		name := strings.TrimPrefix(p11.Error(tt.rv).Error(), "pkcs11: ")
		t.Run(fmt.Sprintf("%s until %s, outage %v", name, names[tt.until], tt.outage), func(t *testing.T) {
			s, cfg := newShim(t, token)
			cfg.Sessions = 4
			b := mustOpen(t, cfg)
			k := mustOpenKey(t, b, ref)
			if tt.rv == p11.CKR_SESSION_COUNT {
				s.set(openLimit, 3) // one keeps the login
			}
			before := b.Stats()
			l := startLoad(t, k)
			time.Sleep(100 * time.Millisecond)

			begin(s, tt.rv, tt.at, tt.until, tt.outage)
			start := time.Now()
			waitFor(t, func() bool { return signOnce(t, t.Context(), k) == nil })
			healthy := time.Since(start)
			time.Sleep(200 * time.Millisecond)
			l.end()
			after := b.Stats()
			logins, restarts := after.LoginsTotal-before.LoginsTotal, after.RestartsTotal-before.RestartsTotal
			table = append(table, fmt.Sprintf("%-30s %-12s %-8v %8d %8d %12v %7d %9d", name[strings.Index(name, "CKR"):], names[tt.until], tt.outage,
				l.signed.Load(), l.failed.Load(), healthy.Round(100*time.Microsecond), logins, restarts))

			if err := l.other.Load(); err != nil {
				t.Errorf("a request failed with %v", *err)
			}
			if n := l.failed.Load(); tt.outage == 0 && n != 0 {
				t.Errorf("%d requests failed, one with %v", n, *l.last.Load())
			}
			if healthy > time.Second {
				t.Errorf("healthy only after %v", healthy)
			}
			if logins != tt.logins || tt.outage == 0 && restarts != tt.restarts {
				t.Errorf("%d logins and %d restarts, want %d and %d", logins, restarts, tt.logins, tt.restarts)
			}
		})
	}
	t.Log("\n" + strings.Join(table, "\n"))
}

// begin sets a fault, and returns when its outage has ended.
func begin(s *shim, rv, at, until uint64, outage time.Duration) {
	s.set(faultAt, at)
	s.set(faultUntil, until)
	s.set(faultLeft, 4)
	s.set(faultBorder, s.get(lastSession))
	if outage > 0 {
		s.set(faultHold, 1)
	}
	if at != 0 {
		s.set(fault, rv)
	}
	time.Sleep(outage)
	s.set(faultHold, 0)
}

// threads is how many operating system threads this process has.
func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip(err)
	}
	return len(tasks)
}

// A module that hangs for ever takes no thread for each request, and is used
// again when it answers.
func TestModuleThatHangs(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	s, cfg := newShim(t, token)
	b := mustOpen(t, cfg)
	k := mustOpenKey(t, b, ref)
	s.set(gate, 1)
	const deadline = time.Second
	var wg sync.WaitGroup
	var slowest atomic.Int64
	var unavailable atomic.Uint64
	for range 200 {
		wg.Go(func() {
			for range 5 {
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				start := time.Now()
				err := signOnce(t, ctx, k)
				cancel()
				if errors.Is(err, signer.ErrUnavailable) {
					unavailable.Add(1)
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a signature of a module that hangs: %v", err)
				}
				if d := int64(time.Since(start)); d > slowest.Load() {
					slowest.Store(d)
				}
			}
		})
	}
	wg.Wait()
	start := time.Now()
	wantError(t, signOnce(t, t.Context(), k), signer.ErrUnavailable, "hangs")
	if d := time.Since(start); d > 100*time.Millisecond {
		t.Errorf("it took %v to say so", d)
	}
	n, stats := threads(t), b.Stats()
	t.Logf("%d threads, slowest answer %v, %d of 1000 ErrUnavailable, %+v", n, time.Duration(slowest.Load()), unavailable.Load(), stats)
	if n >= 64 {
		t.Errorf("%d threads", n)
	}
	if d := time.Duration(slowest.Load()); d > deadline+500*time.Millisecond {
		t.Errorf("a request with a deadline of %v was answered after %v", deadline, d)
	}
	if stats.Abandoned != stats.Sessions {
		t.Errorf("%d of %d sessions abandoned", stats.Abandoned, stats.Sessions)
	}
	s.set(gate, 0)
	waitFor(t, func() bool { return signOnce(t, t.Context(), k) == nil })
}
