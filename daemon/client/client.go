package client

import (
	"bytes"
	"context"
	"encoding/json"
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
// safe for concurrent use; a process needs one.
type Client struct {
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
	return &Client{timeout: c.Timeout, wire: newWire(c.Socket)}
}

// Socket returns the path of the daemon's socket.
func (c *Client) Socket() string { return c.wire.socket }

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

// call sends in to path, by POST, or asks by GET if in is nil, and decodes the
// answer into out.
func (c *Client) call(ctx context.Context, path string, in, out any) error {
	a, err := c.exchange(ctx, path, in)
	if err != nil {
		return err
	}
	defer clear(a.body) // which may hold a CEK or a plaintext
	if a.status != http.StatusOK {
		return a.err()
	}
	return a.decode(out)
}

// decode reports no cause: its text could hold part of the answer.
func (a *answer) decode(out any) error {
	if json.Unmarshal(a.body, out) != nil {
		return fmt.Errorf("the answer is not what signetd's API has (%d bytes): client and daemon of different versions?", len(a.body))
	}
	return nil
}

func (c *Client) exchange(ctx context.Context, path string, in any) (*answer, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	defer c.inFlight.Done()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(c.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	body, err := encode(in)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	a, unanswered, err := c.wire.roundTrip(ctx, deadline, path, body)
	if unanswered && ctx.Err() == nil {
		// To sign or to open twice does no harm, so ask the daemon's successor, on a
		// connection of its own.
		c.wire.closeIdle()
		a, _, err = c.wire.roundTrip(ctx, deadline, path, body)
	}
	if err != nil {
		return nil, c.sendError(ctx, err)
	}
	return a, nil
}

// encode returns the body of a request, nil for none. Claims go as they stand:
// without the escapes for HTML that package json adds if left alone.
func encode(in any) ([]byte, error) {
	if in == nil {
		return nil, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(in); err != nil {
		return nil, fmt.Errorf("%w: encode the request: %w", signer.ErrInvalid, err)
	}
	return b.Bytes(), nil
}
