// Package faultp11 gives tests a PKCS#11 module that fails on demand. It forwards every call
// to a real module, injects faults, and counts.
//
//	token := softhsm.New(t)
//	f := faultp11.New(t, token.Module())
//	cfg := token.Config()
//	cfg.Module = f.Module()
//	backend, err := pkcs11.Open(t.Context(), cfg)
//	...
//	f.Inject("C_Sign 1 rv=CKR_DEVICE_REMOVED")
//
// README.md describes the rules. The module works in any program; this package makes it
// convenient for tests in Go, and depends on nothing else in this repository.
package faultp11

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"
)

// A Module is the fault module before a real one, with its control file and counters. It
// is safe for concurrent use.
type Module struct {
	tb                   testing.TB
	path, control, stats string
	env                  []string
	cells                []byte // the stats file, mapped; its counters change atomically

	mu    sync.Mutex // guards the control file and what follows
	rules []string
	lines int // rules injected so far, to tell rules with one text apart
}

// New puts the fault module before the PKCS#11 library realModule. It sets the environment
// variables that the module reads, for the rest of the test: a process can use one Module
// at a time, and must finalise it before the next.
//
// A mistake in an injected rule fails the test when it ends.
func New(tb testing.TB, realModule string) *Module {
	tb.Helper()
	m := Elsewhere(tb, realModule)
	for _, v := range m.env {
		name, value, _ := strings.Cut(v, "=")
		tb.Setenv(name, value)
	}
	return m
}

// Elsewhere is New for other processes, which the test starts with [Module.Env]. It changes
// nothing in this process, so that tests may run in parallel.
func Elsewhere(tb testing.TB, realModule string) *Module {
	tb.Helper()
	path, err := build()
	if err != nil {
		tb.Fatalf("faultp11: %v", err)
	}

	dir := tb.TempDir()
	m := &Module{tb: tb, path: path, control: filepath.Join(dir, "control"), stats: filepath.Join(dir, "stats")}
	if err := os.WriteFile(m.stats, emptyStats(), 0o600); err != nil {
		tb.Fatal(err)
	}
	if m.cells, err = mapFile(m.stats); err != nil {
		tb.Fatalf("faultp11: map %s: %v", m.stats, err)
	}
	m.env = []string{"FAULTP11_MODULE=" + realModule, "FAULTP11_CONTROL=" + m.control, "FAULTP11_STATS=" + m.stats}

	tb.Cleanup(func() {
		m.Clear() // so that a call that hangs returns
		if n := m.Count("control-errors").Calls; n > 0 {
			tb.Errorf("faultp11: the module found a mistake in the rules %d times: standard error says which", n)
		}
		if err := syscall.Munmap(m.cells); err != nil {
			tb.Error(err)
		}
	})
	return m
}

// Module returns the path of the fault module.
func (m *Module) Module() string { return m.path }

// Env returns the environment that the fault module needs in another process.
func (m *Module) Env() []string { return slices.Clone(m.env) }

// Inject adds rules, which are in force for every call that begins after Inject has
// returned. Each counts calls from then on. The function lift removes them again; it may
// be called more than once.
func (m *Module) Inject(rules ...string) (lift func()) {
	m.tb.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()

	added := make([]string, len(rules))
	for i, rule := range rules {
		m.lines++
		added[i] = fmt.Sprintf("%s # %d", rule, m.lines)
	}
	m.rules = append(m.rules, added...)
	m.writeLocked()

	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.rules = slices.DeleteFunc(m.rules, func(r string) bool { return slices.Contains(added, r) })
		m.writeLocked()
	}
}

// Clear removes all rules.
func (m *Module) Clear() {
	m.tb.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rules = nil
	m.writeLocked()
}

// writeLocked writes the control file in one step, and tells the module to read it.
func (m *Module) writeLocked() {
	m.tb.Helper()
	text := strings.Join(append(slices.Clone(m.rules), ""), "\n")
	if err := os.WriteFile(m.control+".new", []byte(text), 0o600); err != nil {
		m.tb.Fatal(err)
	}
	if err := os.Rename(m.control+".new", m.control); err != nil {
		m.tb.Fatal(err)
	}

	// A second change within one tick of the clock does not show in the file's times.
	cell := m.cell(slices.Index(records, "control"), 0)
	for {
		old := atomic.LoadUint64(cell)
		if atomic.CompareAndSwapUint64(cell, old, encode(decode(old)+1, ' ')) {
			return
		}
	}
}

// A Count is what the module counted of one function, in all processes.
type Count struct {
	Calls   int // without queries
	Queries int // calls that asked for the length of an output, with no buffer for it
	Faults  int // calls and queries in which a rule acted
	Failed  int // calls and queries that returned anything but CKR_OK
	Running int // calls and queries that have not returned yet
}

// Counts returns what was counted of each function, by its name (C_Sign), and:
//
//   - sessions: Calls is the number that were opened, Running the number that are open,
//     and Faults the number that the rule "sessions" refused;
//   - left-open: Calls is the number of sessions that were open at all calls of
//     C_Finalize, and Running the number at the last one;
//   - shared-session: calls on a session that another call was using, which
//     PKCS#11 forbids;
//   - busy-close, busy-logout, busy-finalize: sessions closed while a call used
//     them (or a slot's sessions, while a call used one), C_Logout while a call
//     used another session of the slot, and C_Finalize while another call ran.
func (m *Module) Counts() map[string]Count {
	counts := make(map[string]Count, len(records))
	for _, name := range records {
		counts[name] = m.Count(name)
	}
	return counts
}

// Count returns what was counted under one of the names of [Module.Counts].
func (m *Module) Count(name string) Count {
	m.tb.Helper()
	i := slices.Index(records, name)
	if i < 0 {
		m.tb.Fatalf("faultp11: nothing is counted under %q", name)
	}
	n := func(column int) int { return decode(atomic.LoadUint64(m.cell(i, column))) }
	return Count{Calls: n(0), Queries: n(1), Faults: n(2), Failed: n(3), Running: n(4)}
}

// cell returns a counter: eight bytes of text, which change as one word.
func (m *Module) cell(record, column int) *uint64 {
	at := m.cells[recordBytes*(record+1)+nameBytes+8*column:]
	return (*uint64)(unsafe.Pointer(unsafe.SliceData(at))) // #nosec G103 -- a mapped page is aligned, and records are multiples of 8
}
