package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// maxInput is the length in bytes of the longest input. The daemon takes no longer
// request, unless its config says otherwise.
const maxInput = 1 << 20

// An input is the data that a command works on.
type input struct {
	name string // the path of the file, or "standard input"
	data []byte
}

// read reads the file that args[i] names, or standard input if there is no such argument
// or it is "-". A person at a terminal is told what to type.
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
		return nil, fmt.Errorf("%s: longer than 1 MiB, the longest input that signetd takes", name)
	}
	return &input{name, data}, nil
}

// object checks that the input is one JSON object. The daemon checks that again, and more
// strictly, but its errors cannot name file and line.
func (in *input) object() (json.RawMessage, error) {
	var members map[string]json.RawMessage
	err := json.Unmarshal(in.data, &members)

	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		line, column := position(in.data, syntax.Offset)
		return nil, fmt.Errorf("%s:%d:%d: not JSON: %w", in.name, line, column, syntax)
	case err != nil, members == nil: // Unmarshal takes null
		return nil, fmt.Errorf("%s: JSON, but not an object: claims look like {\"sub\":\"alice\"}", in.name)
	}
	return in.data, nil
}

// position returns the line and the column, both counted from 1, of the last of the read
// bytes, which is where the error is.
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

// isTerminal reports whether r is a device at which a person may be typing.
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
