package client

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"signetd/daemon/api"
	"signetd/signer"
)

// SocketEnv is the environment variable that names the socket where a [Config]
// does not.
const SocketEnv = "SIGNETD_SOCKET"

const (
	defaultTimeout = 30 * time.Second
	connections    = 64      // and no more: further calls wait for one to be free
	maxAnswer      = 4 << 20 // a request may have 1 MiB, and base64 of base64 adds to that
)

// A Config configures a [Client]. The zero value is ready to use.
type Config struct {
	// Socket is the path of the daemon's socket. Optional: that of [SocketEnv], or
	// else [api.DefaultSocket].
	Socket string
	// Timeout bounds each call, beside the deadline of its context: Sign and Decrypt
	// of package crypto have none. Optional: 30 seconds.
	Timeout time.Duration
}

// A Client calls one daemon. It keeps its connections, at most 64, alive and is
// safe for concurrent use; a process needs one, whose calls then share connections
// and system calls.
type Client struct {
	socket  string
	timeout time.Duration
	wire    *wire

	mu       sync.RWMutex // guards closed, and inFlight from growing after it
	closed   bool
	inFlight sync.WaitGroup
}

// New returns a client of the daemon that c names. It does no I/O: a daemon that
// is not there shows at the first call.
func New(c Config) *Client {
	if c.Socket == "" {
		c.Socket = os.Getenv(SocketEnv)
	}
	if c.Socket == "" {
		c.Socket = api.DefaultSocket
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	return &Client{socket: c.Socket, timeout: c.Timeout, wire: newWire(c.Socket)}
}

// Socket returns the path of the daemon's socket.
func (c *Client) Socket() string { return c.socket }

// Close waits for the calls in flight and closes the connections. Calls that come
// later, on c and on the keys that it opened, give signer.ErrUnavailable.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.inFlight.Wait()
	c.wire.closeIdle()
	return nil
}

func (c *Client) begin() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return fmt.Errorf("%w: the client is closed", signer.ErrUnavailable)
	}
	c.inFlight.Add(1)
	return nil
}

// call makes a call of l with in, by POST, or asks by GET if in is nil, and decodes
// the answer into out.
func (c *Client) call(ctx context.Context, l lane, in, out any) error {
	q, err := c.exchange(ctx, l, in)
	if err != nil {
		return err
	}
	defer q.free() // which wipes the answer: it may hold a CEK or a plaintext
	if q.status != http.StatusOK {
		return q.refusal()
	}
	return q.decode(out)
}

// exchange returns a call with its answer. The caller frees it.
func (c *Client) exchange(ctx context.Context, l lane, in any) (*call, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	defer c.inFlight.Done()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := time.Now()
	deadline := now.Add(c.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	q := newCall(ctx, l, now, deadline)
	err := q.encode(in)
	if err != nil {
		q.free()
		return nil, err
	}
	err = c.wire.do(q)
	if err != nil && q.unanswered && ctx.Err() == nil {
		// To sign or to open twice does no harm, so ask the daemon, or its successor, once
		// more. It goes alone, as RFC 9112 section 9.3.2 has it after a connection failed.
		q.again()
		err = c.wire.do(q)
	}
	if err != nil {
		q.free()
		return nil, c.sendError(ctx, err)
	}
	return q, nil
}
