package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// maxInput is the most that is read: the daemon takes no longer request, unless
// its config says otherwise.
const maxInput = 1 << 20

// An input is what a command works on, and where it came from.
type input struct {
	name string
	data []byte
}

// read reads the file that args name at position i, or standard input if they
// name none or "-". what says what it should be, to a person at a terminal.
func (a *app) read(cmd *cobra.Command, args []string, i int, what string) (*input, error) {
	if len(args) > i && args[i] != "-" {
		return readFile(args[i])
	}
	if isTerminal(cmd.InOrStdin()) {
		a.say("reading %s from standard input; end it with ctrl-d", what)
	}
	return readAll("standard input", cmd.InOrStdin())
}

func readFile(path string) (*input, error) {
	f, err := os.Open(path) // #nosec G304 -- the user names the file
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(path, f)
}

func readAll(name string, r io.Reader) (*input, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case len(data) > maxInput:
		return nil, fmt.Errorf("%s: longer than 1 MiB, the most that signetd takes", name)
	}
	return &input{name, data}, nil
}

// object checks that the input is one JSON object. The daemon does it again, and
// more strictly, but does not know files and lines.
func (in *input) object() (json.RawMessage, error) {
	var members map[string]json.RawMessage
	err := json.Unmarshal(in.data, &members)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		line, column := position(in.data, syntax.Offset)
		return nil, fmt.Errorf("%s:%d:%d: not JSON: %w", in.name, line, column, syntax)
	case err != nil, members == nil: // null is no error to Unmarshal
		return nil, fmt.Errorf("%s: JSON, but not an object: claims look like {\"sub\":\"alice\"}", in.name)
	}
	return in.data, nil
}

// position turns the number of bytes read when an error was found into a line
// and a column, both from 1.
func position(data []byte, read int64) (line, column int) {
	line, column = 1, 1
	for _, c := range data[:max(0, min(read-1, int64(len(data))))] {
		column++
		if c == '\n' {
			line, column = line+1, 1
		}
	}
	return line, column
}

// isTerminal reports whether r is a device that a person may be typing at.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
