//go:build linux && cgo

// Package load has the workers of the bench: processes of their own, as issuers are,
// whose clients call a token, a daemon or a tool as fast as they can.
//
// A worker and the bench speak by standard input and output. The worker writes a
// greeting once it is ready. Then, for each line "CLIENTS MICROSECONDS" that it reads,
// it has so many clients call for so long, and writes a [Sample] as a line of JSON.
package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A Target is something that signs or decrypts, as the clients of one worker use it.
type Target interface {
	// Client returns the function that the i-th client calls again and again. Each call
	// does Weight operations.
	Client(i int) (call func() error, err error)
	// Weight is the number of operations in a call: the size of a batch, or 1.
	Weight() int
	// Close releases what the target holds.
	Close() error
}

// A Sample is what the clients of a worker did in one slice of time.
type Sample struct {
	Ops     int     `json:"ops"`
	Errors  int     `json:"errors"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50_us"` // of a call
	P99     float64 `json:"p99_us"`
	Each    []int   `json:"each"`            // operations of each client
	User    float64 `json:"user_us"`         // the worker's processor time outside the kernel
	System  float64 `json:"system_us"`       // and in the kernel
	Error   string  `json:"error,omitempty"` // the last one
	// Broken says why a client could not be made. There are no figures then.
	Broken string `json:"broken,omitempty"`
}

// Rate returns operations per second.
func (s Sample) Rate() float64 { return float64(s.Ops) / s.Seconds }

// A greeting is the first line that a worker writes.
type greeting struct {
	Error string `json:"error,omitempty"` // why the worker cannot work
}

// Greet writes the greeting of a worker that is ready, or that failed with err. It
// returns err.
func Greet(out io.Writer, err error) error {
	var g greeting
	if err != nil {
		g.Error = err.Error()
	}
	return errors.Join(err, json.NewEncoder(out).Encode(g))
}

// Serve is the main of a worker. It closes t when in ends.
func Serve(t Target, in io.Reader, out io.Writer) (err error) {
	defer func() { err = errors.Join(err, t.Close()) }()
	encoder := json.NewEncoder(out)
	var calls []func() error

	for lines := bufio.NewScanner(in); lines.Scan(); {
		var clients int
		var length int64
		if _, err := fmt.Sscan(lines.Text(), &clients, &length); err != nil {
			return err
		}

		for i := len(calls); i < clients; i++ {
			call, err := t.Client(i)
			if err != nil {
				return errors.Join(err, encoder.Encode(Sample{Broken: err.Error()}))
			}
			calls = append(calls, call)
		}

		if err := encoder.Encode(slice(calls[:clients], time.Duration(length)*time.Microsecond, t.Weight())); err != nil {
			return err
		}
	}
	return nil
}

// slice runs each of calls in a goroutine of its own, at least once and until d is over.
func slice(calls []func() error, d time.Duration, weight int) Sample {
	type result struct {
		took   []time.Duration
		errors int
		err    error
	}
	results := make([]result, len(calls))
	var wg sync.WaitGroup
	user, system := cpuTime()
	start := time.Now()

	for i, call := range calls {
		wg.Go(func() {
			r := &results[i]
			for at, first := time.Now(), true; first || at.Sub(start) < d; first = false {
				err := call()
				end := time.Now()
				if err != nil {
					r.errors, r.err = r.errors+1, err
				}
				r.took = append(r.took, end.Sub(at))
				at = end
			}
		})
	}
	wg.Wait()

	s := Sample{Seconds: time.Since(start).Seconds()}
	userNow, systemNow := cpuTime()
	s.User, s.System = Micros(userNow-user), Micros(systemNow-system)

	var took []time.Duration
	for _, r := range results {
		ops := (len(r.took) - r.errors) * weight
		s.Ops += ops
		s.Errors += r.errors
		s.Each = append(s.Each, ops)
		if r.err != nil {
			s.Error = r.err.Error()
		}
		took = append(took, r.took...)
	}
	slices.Sort(took)
	if n := len(took); n > 0 {
		s.P50, s.P99 = Micros(took[n/2]), Micros(took[min(n-1, n*99/100)])
	}
	return s
}

// Micros returns d in microseconds.
func Micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// cpuTime returns the processor time of this process and of its children that have
// ended.
func cpuTime() (user, system time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			user, system = user+time.Duration(u.Utime.Nano()), system+time.Duration(u.Stime.Nano())
		}
	}
	return user, system
}

// A Worker is the process of a worker, as the bench holds it.
type Worker struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder

	// behind is a server that only this worker uses, or nil. It is killed after the worker
	// has ended.
	behind *Worker
}

// Start starts this program again as the worker that does j, with env added to its
// environment.
func Start(env []string, j Job) (*Worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}

	cmd := exec.Command(self, "worker", string(text)) // #nosec G204 -- this program
	cmd.Env = append(os.Environ(), env...)
	return StartCommand(j.Kind, cmd)
}

// StartCommand starts any program that speaks as a worker does, and waits for its
// greeting.
//
// The wait makes workers log in one after the other. SoftHSM2 writes a token's file anew
// at each login, and a module that is initialised meanwhile may find no token. Through
// p11-kit that is CKR_BUFFER_TOO_SMALL, since its protocol cannot ask for a list of no
// slots (https://github.com/p11-glue/p11-kit/issues/257).
func StartCommand(name string, cmd *exec.Cmd) (*Worker, error) {
	w := &Worker{name: name, cmd: cmd}
	var err error
	if w.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = json.NewDecoder(out)
	if err := cmd.Start(); err != nil {
		return nil, err
	}

	var g greeting
	err = w.out.Decode(&g)
	if g.Error != "" {
		err = errors.New(g.Error)
	}
	if err != nil {
		_ = w.Stop() // which says no more than that it failed
		return nil, fmt.Errorf("worker %s: %w", name, err)
	}
	return w, nil
}

// Tell writes a line to the worker.
func (w *Worker) Tell(line string) error {
	_, err := fmt.Fprintln(w.in, line)
	return err
}

// Slice has so many clients of the worker call for d.
func (w *Worker) Slice(clients int, d time.Duration) (s Sample, err error) {
	err = w.Tell(fmt.Sprint(clients, d.Microseconds()))
	if err == nil {
		err = w.out.Decode(&s)
	}
	if err == nil && s.Broken != "" {
		err = errors.New(s.Broken)
	}
	if err != nil {
		return s, fmt.Errorf("worker %s: %w", w.name, err)
	}
	return s, nil
}

// Stop ends the worker and waits for it.
func (w *Worker) Stop() error {
	err := errors.Join(w.in.Close(), w.cmd.Wait())
	if w.behind != nil {
		err = errors.Join(err, w.behind.kill())
	}
	return err
}

// kill ends a worker that does not end with its standard input.
func (w *Worker) kill() error {
	if err := w.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = w.cmd.Wait() // it was killed
	return nil
}
