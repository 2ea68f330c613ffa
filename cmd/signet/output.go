package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"signetd/daemon/api"
	"signetd/daemon/client"
	"signetd/signer"
)

// print prints an answer: the whole of it with --json, or else what plain writes.
func (a *app) print(cmd *cobra.Command, answer any, plain func(io.Writer) error) error {
	if !a.json {
		return plain(cmd.OutOrStdout())
	}
	return printJSON(cmd.OutOrStdout(), answer)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printTable prints rows in aligned columns.
func printTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := io.WriteString(t, strings.Join(row, "\t")+"\n"); err != nil {
			return err
		}
	}
	return t.Flush()
}

// line returns what prints one line of text.
func line(text string) func(io.Writer) error {
	return raw([]byte(text + "\n"))
}

// base64url returns what prints data in base64url on one line.
func base64url(data api.Bytes) func(io.Writer) error {
	text, _ := data.MarshalText() // it never fails
	return raw(append(text, '\n'))
}

// raw returns what prints data byte for byte.
func raw(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// indented returns what prints JSON over several lines.
func indented(text json.RawMessage) func(io.Writer) error {
	return func(w io.Writer) error {
		var b bytes.Buffer
		if err := json.Indent(&b, text, "", "  "); err != nil {
			return err
		}
		b.WriteByte('\n')
		_, err := b.WriteTo(w)
		return err
	}
}

// The exit statuses.
const (
	statusOK          = 0
	statusRefused     = 1
	statusUsage       = 2
	statusUnreachable = 3
)

// A usageError is a wrong use of a command that cobra does not find by itself.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usage(format string, args ...any) error {
	return usageError{fmt.Sprintf(format, args...)}
}

// exit prints the error with which cmd ended, and what to do about it, to standard error.
// It returns the exit status.
func (a *app) exit(cmd *cobra.Command, err error) int {
	var wrong usageError
	var refused *client.Error
	switch {
	case err == nil:
		return statusOK
	case !a.began, errors.As(err, &wrong):
		a.say("%v", err)
		if cmd.HasParent() {
			a.say("usage: %s", cmd.UseLine())
		}
		a.say("see %q", cmd.CommandPath()+" --help")
		return statusUsage
	case errors.As(err, &refused):
		a.say("%v", err)
		a.advise(refused)
		return statusRefused

	// The daemon did not answer. The sentinel's own text would say so a second time.
	case errors.Is(err, context.DeadlineExceeded):
		a.say("no answer on %s within %s", a.client.Socket(), a.timeout)
		return statusUnreachable
	case errors.Is(err, signer.ErrUnavailable), errors.Is(err, signer.ErrOverloaded):
		a.say("%s", strings.TrimPrefix(err.Error(), signer.ErrUnavailable.Error()+": "))
		a.say("to use another socket, set --socket or %s", client.SocketEnv)
		return statusUnreachable

	default: // a file, or what is in it
		a.say("%v", err)
		return statusRefused
	}
}

// advise prints what the user can do about a refusal.
func (a *app) advise(e *client.Error) {
	switch {
	case errors.Is(e, signer.ErrDenied):
		a.say("the config of signetd says what user %s may do: ask its operator, and see \"signet keys\"", userName())
	case e.RetryAfter > 0:
		a.say("try again in %s", e.RetryAfter)
	case e.Code == signer.CodeInternal && e.RequestID != "":
		a.say("report the request id to the operator of signetd: the daemon's log has the reason")
	}
}

// say prints one line to standard error.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.stderr, "signet: "+format+"\n", args...) // there is no other place to report an error
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return fmt.Sprintf("%s (uid %s)", u.Username, u.Uid)
	}
	return fmt.Sprintf("with uid %d", os.Getuid())
}
