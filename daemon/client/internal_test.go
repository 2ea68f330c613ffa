package client

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"signetd/signer"
)

// TestDialErrors makes by hand the errors that do not occur in a test that runs as root, or
// on an idle machine.
func TestDialErrors(t *testing.T) {
	tests := []struct {
		errno syscall.Errno
		want  error
		text  string
	}{
		{syscall.EACCES, signer.ErrUnavailable, "no daemon answers on /run/s: may user " + userName() + " open it?"},
		{syscall.EAGAIN, signer.ErrOverloaded, "too many connections"},
		{syscall.ENAMETOOLONG, signer.ErrUnavailable, "connect to /run/s: "},
	}
	for _, tt := range tests {
		dial := fmt.Errorf("wrapped: %w", &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", tt.errno)})
		err := New(Config{Socket: "/run/s"}).sendError(dial)
		if !errors.Is(err, tt.want) || !errors.Is(err, tt.errno) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("sendError(%v) = %v, want %v with %q", tt.errno, err, tt.want, tt.text)
		}
	}
}

func TestKidOf(t *testing.T) {
	for _, tt := range []struct{ token, want string }{
		{"eyJhbGciOiJFUzI1NiIsImtpZCI6InRoZSBraWQiLCJ0eXAiOiJKV1QifQ.e30.c2ln", "the kid"}, // {"alg":"ES256","kid":"the kid","typ":"JWT"}
		{"eyJhbGciOiJFUzI1NiJ9.e30.c2ln", ""},
		{"!.e30.c2ln", ""},
		{`{"protected":"eyJ"}`, ""},
		{"", ""},
	} {
		if got := kidOf(tt.token); got != tt.want {
			t.Errorf("kidOf(%q) = %q, want %q", tt.token, got, tt.want)
		}
	}
}
