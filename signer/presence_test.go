package signer_test

import (
	"testing"
	"time"

	"signetd/signer"
)

func TestPresence(t *testing.T) {
	var p signer.Presence
	if _, news := p.Found(); news || !p.Present() || p.State() != signer.StateOK || p.Look(time.Now()) || p.Wait(nil) {
		t.Error("the zero value is not present")
	}

	if !p.Lost() || p.Lost() || p.State() != signer.StateAway {
		t.Errorf("after two reports that it does not answer it is %s, want the first to be news", p.State())
	}
	if p.Look(time.Now()) {
		t.Error("looked at without a pause")
	}
	if later := time.Now().Add(time.Second); !p.Look(later) || p.Look(later) {
		t.Error("after a pause, not one look")
	}
	if !p.Look(time.Now().Add(time.Minute)) {
		t.Error("no other look for one that has no outcome")
	}
	if after, news := p.Found(); !news || after <= 0 || !p.Present() {
		t.Errorf("Found() = %v, %t, want news", after, news)
	}

	p.Missing()
	if p.Lost() || p.State() != signer.StateMissing {
		t.Errorf("what is missing is %s after a report that it does not answer", p.State())
	}
	if _, news := p.Found(); !news || p.State() != signer.StateOK {
		t.Error("what is missing is not found")
	}
}

// TestPresencePauses looks in vain: each pause is longer, up to a longest one.
func TestPresencePauses(t *testing.T) {
	var p signer.Presence
	now := time.Now()
	p.Lost()
	for _, longest := range []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000} {
		longest *= time.Millisecond
		if p.Look(now.Add(longest/2 - 10*time.Millisecond)) {
			t.Errorf("looked at in less than half of %v", longest)
		}
		if !p.Look(now.Add(longest + time.Second)) {
			t.Errorf("not looked at after %v", longest)
		}
		now = time.Now()
		p.Lost()
	}
}

func TestPresenceWait(t *testing.T) {
	var p signer.Presence
	p.Lost()
	for range 3 {
		if !p.Wait(nil) {
			t.Fatal("Wait() = false for what is away")
		}
		p.Lost()
	}
	stop := make(chan struct{})
	close(stop)
	if p.Wait(stop) {
		t.Error("Wait() = true after the end")
	}
}
