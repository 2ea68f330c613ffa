//go:build linux && cgo

package main

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

// A target is something that signs or opens. It lives in a worker, a process of its
// own, as an issuer is.
type target interface {
	// client returns what the i-th client calls again and again. Each call does
	// weight operations.
	client(i int) (call func() error, err error)
	// weight is how many operations a call does.
	weight() int
	// close undoes what was made for the clients.
	close() error
}

// A sample is what came of one slice of time.
type sample struct {
	Ops     int     `json:"ops"`
	Errors  int     `json:"errors"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50_us"` // of a call
	P99     float64 `json:"p99_us"`
	Each    []int   `json:"each"`      // operations of each client
	User    float64 `json:"user_us"`   // the worker's time on a processor, in all
	System  float64 `json:"system_us"` // and in the kernel
	Error   string  `json:"error,omitempty"`
	// Broken is why the clients could not be made: there is no sample.
	Broken string `json:"broken,omitempty"`
}

// rate is in operations a second.
func (s sample) rate() float64 { return float64(s.Ops) / s.Seconds }

// work is the main of a worker: it reads "CLIENTS MICROSECONDS" from in, has so
// many clients call t for so long, and writes a sample, until in ends.
func work(t target, in io.Reader, out io.Writer) (err error) {
	defer func() { err = errors.Join(err, t.close()) }()
	var calls []func() error
	encoder := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var clients int
		var micros int64
		if _, err := fmt.Sscan(lines.Text(), &clients, &micros); err != nil {
			return err
		}
		for i := len(calls); i < clients; i++ {
			call, err := t.client(i)
			if err != nil {
				return errors.Join(err, encoder.Encode(sample{Broken: err.Error()}))
			}
			calls = append(calls, call)
		}
		if err := encoder.Encode(slice(calls[:clients], time.Duration(micros)*time.Microsecond, t.weight())); err != nil {
			return err
		}
	}
	return nil
}

// slice has each of calls called in a goroutine of its own, once and then again until
// d is over.
func slice(calls []func() error, d time.Duration, weight int) sample {
	type one struct {
		took   []time.Duration
		errors int
		err    error
	}
	all := make([]one, len(calls))
	var wg sync.WaitGroup
	user, system := cpuTime()
	start := time.Now()
	for i, call := range calls {
		wg.Go(func() {
			o := &all[i]
			for at, first := time.Now(), true; first || at.Sub(start) < d; first = false {
				err := call()
				end := time.Now()
				if err != nil {
					o.errors, o.err = o.errors+1, err
				}
				o.took = append(o.took, end.Sub(at))
				at = end
			}
		})
	}
	wg.Wait()
	s := sample{Seconds: time.Since(start).Seconds()}
	userNow, systemNow := cpuTime()
	s.User, s.System = micros(userNow-user), micros(systemNow-system)
	var took []time.Duration
	for _, o := range all {
		ops := (len(o.took) - o.errors) * weight
		s.Ops += ops
		s.Errors += o.errors
		s.Each = append(s.Each, ops)
		if o.err != nil {
			s.Error = o.err.Error()
		}
		took = append(took, o.took...)
	}
	slices.Sort(took)
	if n := len(took); n > 0 {
		s.P50, s.P99 = micros(took[n/2]), micros(took[min(n-1, n*99/100)])
	}
	return s
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// cpuTime is the time that this process and its children, those that have ended, have
// had on a processor, in their own code and in the kernel.
func cpuTime() (user, system time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			user, system = user+time.Duration(u.Utime.Nano()), system+time.Duration(u.Stime.Nano())
		}
	}
	return user, system
}

// A worker is a process that does a job.
type worker struct {
	kind string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
}

// startWorker starts this program again to do a job, and waits until it is ready. So
// workers log in one after the other: SoftHSM2 writes a token's file anew at each
// login, and a module that is initialised meanwhile may find no token there. Through
// p11-kit that is CKR_BUFFER_TOO_SMALL, since its protocol cannot ask for a list of no
// slots (https://github.com/p11-glue/p11-kit/issues/257).
func startWorker(env []string, j job) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	w := &worker{kind: j.Kind, cmd: exec.Command(self, "worker", string(text))} // #nosec G204 -- this program
	w.cmd.Env = append(os.Environ(), env...)
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = json.NewDecoder(out)
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	var g greeting
	err = w.out.Decode(&g)
	if g.Error != "" {
		err = errors.New(g.Error)
	}
	if err != nil {
		_ = w.stop() // which says no more than that it failed
		return nil, fmt.Errorf("worker %s: %w", j.Kind, err)
	}
	return w, nil
}

// slice has the worker's clients call for d.
func (w *worker) slice(clients int, d time.Duration) (s sample, err error) {
	if _, err := fmt.Fprintln(w.in, clients, d.Microseconds()); err != nil {
		return s, fmt.Errorf("worker %s: %w", w.kind, err)
	}
	if err := w.out.Decode(&s); err != nil {
		return s, fmt.Errorf("worker %s: %w", w.kind, err)
	}
	if s.Broken != "" {
		return s, fmt.Errorf("worker %s: %s", w.kind, s.Broken)
	}
	return s, nil
}

// stop ends the worker.
func (w *worker) stop() error {
	return errors.Join(w.in.Close(), w.cmd.Wait())
}
