package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"signetd/backends/pkcs11"
)

// A printer prints reports for people. It keeps the first error of w.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) report(r pkcs11.Report) {
	if r.Backend != "" {
		p.line("Backend %s", r.Backend)
	}
	p.line("Module  %s", r.Module.Path)
	if m := r.Module; m.Loaded {
		p.line("        %s %s by %s, PKCS#11 %s", m.Description, m.Version, m.Manufacturer, m.Cryptoki)
	}
	for _, s := range r.Slots {
		p.slot(s, r.Target == "")
	}
	for _, k := range r.Keys {
		p.key(k)
	}
	p.line("")
}

// slot prints a slot. Unless all is set, a token that was not asked for gets one line.
func (p *printer) slot(s pkcs11.SlotReport, all bool) {
	t := s.Token
	switch {
	case t == nil:
		p.line("Slot    %d: %s", s.ID, s.Error)
		return
	case !t.Initialized:
		p.line("Slot    %d: a token that is not initialised", s.ID)
		return
	}

	p.line("Token   %q, serial %s, in slot %d", t.Label, t.Serial, s.ID)
	if !t.Chosen && !all {
		return
	}

	p.line("        %s %s, hardware %s, firmware %s", t.Manufacturer, t.Model, t.Hardware, t.Firmware)
	p.line("        sessions: %s", sessionsText(t.Sessions))
	p.line("        user PIN: %s", pinText(t.PIN))
	p.list(fmt.Sprintf("%d mechanisms:", len(t.Mechanisms)), t.Mechanisms)
}

// list prints words after a title, in lines that fit a terminal.
func (p *printer) list(title string, words []string) {
	const indent, width = "          ", 100
	if len(words) == 0 {
		return
	}

	line := indent[2:] + title
	for _, word := range words {
		if len(line)+1+len(word) > width {
			p.line("%s", line)
			line = indent + word
			continue
		}
		line += " " + word
	}
	p.line("%s", line)
}

func sessionsText(s pkcs11.SessionsReport) string {
	text := "the token does not say how many it allows"
	switch {
	case s.Max != nil && *s.Max == 0:
		text = "no limit"
	case s.Max != nil:
		text = fmt.Sprintf("%d at most", *s.Max)
	}

	if s.Open != nil {
		text += fmt.Sprintf(", %d open", *s.Open)
	}
	if s.Configured > 0 {
		text += fmt.Sprintf("; signetd uses %d, and one more to stay logged in", s.Configured)
	}
	return text
}

func pinText(pin pkcs11.PINReport) string {
	var state []string
	for _, s := range []struct {
		set  bool
		text string
	}{
		{!pin.Initialized, "never set"},
		{pin.CountLow, "a wrong PIN was tried"},
		{pin.FinalTry, "one more wrong PIN locks the token"},
		{pin.Locked, "locked"},
		{pin.ToBeChanged, "must be changed"},
	} {
		if s.set {
			state = append(state, s.text)
		}
	}

	if len(state) == 0 {
		state = []string{"ok"}
	}
	return fmt.Sprintf("%s; %d to %d characters", strings.Join(state, ", "), pin.MinLength, pin.MaxLength)
}

func (p *printer) key(k pkcs11.KeyReport) {
	p.line("Key     %s  %s", k.Name, k.Ref)
	if !k.Found {
		return
	}

	var yes, no []string
	for name, value := range k.Attributes {
		if short := strings.TrimPrefix(name, "CKA_"); value {
			yes = append(yes, short)
		} else {
			no = append(no, short)
		}
	}
	slices.Sort(yes)
	slices.Sort(no)

	if k.Type != "" {
		p.line("        %s", k.Type)
	}
	p.list("is:", yes)
	p.list("is not:", no)
	p.list("allows only:", k.AllowedMechanisms)
	for _, a := range k.Algs {
		p.alg(a)
	}
}

func (p *printer) alg(a pkcs11.AlgReport) {
	proven := "right"
	if !a.Proven {
		proven = "WRONG"
	}

	p.line("        %-12s  %s  by %s", a.Alg, proven, a.Way)
	for _, l := range a.Latency {
		p.line("                      %d in flight: median %s, p99 %s (%d runs)", l.InFlight, milliseconds(l.Median), milliseconds(l.P99), l.Samples)
	}
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

func (p *printer) finding(backend string, f pkcs11.Finding) {
	subject := f.Subject
	if backend != "" {
		subject = backend + ": " + subject
	}
	p.line("  %-4s  %s: %s", f.Severity, subject, f.Problem)
	if f.Fix != "" {
		p.line("        -> %s", f.Fix)
	}
}
