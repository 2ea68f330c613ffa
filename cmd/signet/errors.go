package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"

	"signetd/daemon/client"
	"signetd/signer"
)

// The exit statuses.
const (
	statusOK          = 0
	statusRefused     = 1
	statusUsage       = 2
	statusUnreachable = 3
)

// A usageError is a wrong use of a command that its flags do not catch.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usage(format string, args ...any) error {
	return usageError{fmt.Sprintf(format, args...)}
}

// exit reports what cmd ended with on standard error, with what to do about it,
// and returns the exit status.
func (a *app) exit(cmd *cobra.Command, err error) int {
	if err == nil {
		return statusOK
	}
	var wrong usageError
	if !a.began || errors.As(err, &wrong) {
		a.say("%v", err)
		if cmd.HasParent() {
			a.say("usage: %s", cmd.UseLine())
		}
		a.say("see %q", cmd.CommandPath()+" --help")
		return statusUsage
	}
	var refused *client.Error
	if errors.As(err, &refused) {
		a.say("%v", err)
		a.advise(refused)
		return statusRefused
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		a.say("no answer on %s within %s", a.client.Socket(), a.timeout)
		return statusUnreachable
	case errors.Is(err, signer.ErrUnavailable), errors.Is(err, signer.ErrOverloaded):
		a.say("%s", strings.TrimPrefix(err.Error(), signer.ErrUnavailable.Error()+": "))
		a.say("another socket is named with --socket or %s", client.SocketEnv)
		return statusUnreachable
	}
	a.say("%v", err)
	return statusRefused
}

// advise says what the user can do about a refusal.
func (a *app) advise(e *client.Error) {
	switch {
	case errors.Is(e, signer.ErrDenied):
		a.say("what user %s may do is in the config of signetd: ask its operator, and see \"signet keys\"", userName())
	case e.RetryAfter > 0:
		a.say("try again in %s", e.RetryAfter)
	case e.Code == signer.CodeInternal && e.RequestID != "":
		a.say("report the request id to the operator of signetd: its log has the reason")
	}
}

// say writes a line to standard error, in the form of all of them.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.stderr, "signet: "+format+"\n", args...) // where else to report an error?
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return fmt.Sprintf("%s (uid %s)", u.Username, u.Uid)
	}
	return fmt.Sprintf("with uid %d", os.Getuid())
}
