//go:build cgo && unix

package pkcs11_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// A load is 32 clients that use a key without a pause.
type load struct {
	done, failed, refused atomic.Int64                // requests; one with ErrDecrypt is refused, not failed
	last                  atomic.Pointer[error]       // the error of the last request that failed
	ended                 [32]atomic.Uint64           // requests of each client
	use                   func(context.Context) error // makes one request
	stop                  chan struct{}
	clients               sync.WaitGroup
}

func startLoad(t *testing.T, use func(context.Context) error) *load {
	t.Helper()
	l := &load{use: use, stop: make(chan struct{})}
	for client := range l.ended {
		l.clients.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				l.request(t, client)
			}
		})
	}
	return l
}

func (l *load) request(t *testing.T, client int) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()

	err := l.use(ctx)
	l.ended[client].Add(1)

	switch {
	case err == nil:
		l.done.Add(1)
	case err == signer.ErrDecrypt: //nolint:errorlint // it must be bare
		l.refused.Add(1)
	case errors.Is(err, signer.ErrUnavailable) || errors.Is(err, signer.ErrOverloaded):
		l.failed.Add(1)
		l.last.Store(&err)
		time.Sleep(time.Millisecond) // as a client does after a 503
	default:
		t.Errorf("a request failed with %v", err)
	}
}

// settle waits until each client has finished a request that it began after now.
func (l *load) settle(t *testing.T) {
	t.Helper()
	var before [len(l.ended)]uint64
	for client := range l.ended {
		before[client] = l.ended[client].Load()
	}
	for client := range l.ended {
		waitFor(t, func() bool { return l.ended[client].Load() >= before[client]+2 })
	}
}

func (l *load) end() {
	close(l.stop)
	l.clients.Wait()
}

// signing returns a request that signs, and opening returns one that decrypts.
func signing(t *testing.T, k signer.Key) func(context.Context) error {
	return func(ctx context.Context) error { return signOnce(t, ctx, k) }
}

func opening(t *testing.T, k signer.Key, alg signer.Alg) func(context.Context) error {
	t.Helper()
	ct := encryptTo(t, k.Public(), alg, []byte("cek"))
	return func(ctx context.Context) error {
		got, err := k.(signer.Decrypter).DecryptContext(ctx, ct, alg.DecrypterOpts())
		if err == nil && string(got) != "cek" {
			t.Error("a wrong plaintext")
		}
		return err
	}
}

// threads returns the number of operating system threads of this process.
func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip(err)
	}
	return len(tasks)
}

// A module that hangs does not cost a thread for each request, and is used again when it
// answers.
func TestModuleThatHangs(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	f, cfg := newFaulty(t, token)
	b := mustOpen(t, cfg)
	k := mustOpenKey(t, b, ref)
	lift := f.Inject("C_Sign * hang")
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
	lift()
	waitFor(t, func() bool { return signOnce(t, t.Context(), k) == nil })
}
