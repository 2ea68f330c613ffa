package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// A story prints what happens.
type story struct {
	out   io.Writer
	color bool
	part  int
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
}

func (s *story) paint(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// chapter begins a part.
func (s *story) chapter(title string) {
	s.part++
	fmt.Fprintf(s.out, "\n%s\n", s.paint("1", fmt.Sprintf("%d. %s", s.part, title)))
}

// did reports a step that had the right result.
func (s *story) did(format string, args ...any) {
	fmt.Fprintf(s.out, "   %s %s\n", s.paint("32", "✓"), fmt.Sprintf(format, args...))
}

// show prints text, indented.
func (s *story) show(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		fmt.Fprintf(s.out, "     %s\n", s.paint("2", strings.TrimRight(line, "\n")))
	}
}

func (s *story) end(text string) { fmt.Fprintf(s.out, "\n%s\n", s.paint("1;32", text)) }

// short replaces the middle of a long token by dots.
func short(token string) string {
	const head, tail = 44, 12
	if len(token) <= head+tail+3 {
		return token
	}
	return token[:head] + "..." + token[len(token)-tail:]
}
