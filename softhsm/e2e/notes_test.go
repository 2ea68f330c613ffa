package e2e

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A buffer collects what a process prints.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

// Write implements [io.Writer].
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

// String returns all of it.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// tail returns the end of it, for messages.
func (b *buffer) tail() string {
	s := b.String()
	return s[max(0, len(s)-4000):]
}

// notes are the messages of a daemon to its supervisor (sd_notify(3)).
type notes struct {
	path  string
	mu    sync.Mutex
	seen  []string
	added chan struct{} // closed and replaced at each note
}

func listenNotes(t *testing.T, dir string) *notes {
	t.Helper()
	n := &notes{path: filepath.Join(dir, "notify"), added: make(chan struct{})}
	_ = os.Remove(n.path) // left by the previous process
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })

	go func() { // ends when the cleanup closes c
		buf := make([]byte, 4096)
		for {
			size, err := c.Read(buf)
			if err != nil {
				return
			}
			n.add(string(buf[:size]))
		}
	}()
	return n
}

func (n *notes) add(note string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sc := bufio.NewScanner(strings.NewReader(note))
	for sc.Scan() {
		n.seen = append(n.seen, sc.Text())
	}
	close(n.added)
	n.added = make(chan struct{})
}

// all returns the messages so far, and a channel that is closed at the next one.
func (n *notes) all() ([]string, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.seen), n.added
}

// awaitReady waits for the n-th READY=1 of the daemon.
func (p *process) awaitReady(count int) {
	p.t.Helper()
	late := time.After(deadline)
	for {
		seen, more := p.notes.all()
		have := 0
		for _, s := range seen {
			if s == "READY=1" {
				have++
			}
		}
		if have >= count {
			return
		}
		select {
		case <-more:
		case <-p.exited:
			p.t.Fatalf("ended without being ready\n%s", p.stderr.tail())
		case <-late:
			p.t.Fatalf("not ready\n%s", p.stderr.tail())
		}
	}
}
