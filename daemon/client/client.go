package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"signetd/daemon/api"
	"signetd/daemon/client/http1"
	"signetd/signer"
)

// SocketEnv is the environment variable that names the socket if a [Config] does not.
const SocketEnv = "SIGNETD_SOCKET"

const defaultTimeout = 30 * time.Second

// A Config configures a [Client]. The zero value is ready to use.
type Config struct {
	// Socket is the path of the daemon's socket. Optional: the path in [SocketEnv], or
	// else [api.DefaultSocket].
	Socket string
	// Timeout bounds each call, in addition to the deadline of its context: the methods
	// Sign and Decrypt of package crypto have no context. Optional: 30 seconds.
	Timeout time.Duration
}

// A Client calls one daemon. It keeps its connections alive, at most 64, and is safe for
// concurrent use. One client is enough for a process: its calls then share connections
// and system calls.
type Client struct {
	socket  string
	timeout time.Duration
	pool    *http1.ConnPool
}

// New returns a client of the daemon that c names. It does no I/O: if the daemon is not
// running, the first call says so.
func New(c Config) *Client {
	c.Socket = cmp.Or(c.Socket, os.Getenv(SocketEnv), api.DefaultSocket)
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	return &Client{socket: c.Socket, timeout: c.Timeout, pool: http1.NewConnPool(c.Socket)}
}

// Socket returns the path of the daemon's socket.
func (c *Client) Socket() string { return c.socket }

// Close waits for the calls in flight and closes the connections. Later calls, on c and
// on the keys that it opened, return signer.ErrUnavailable.
func (c *Client) Close() error {
	c.pool.Close()
	return nil
}

// post calls an endpoint that takes a request. Calls with the same key and kid may share
// a connection, see [http1.RouteKey].
func post[Q, A any](ctx context.Context, c *Client, e api.Endpoint[Q, A], req *Q, key, kid string) (*A, error) {
	call, err := c.exchange(ctx, e.Method, http1.RouteKey{Path: e.Path, Key: key, KID: kid}, req)
	if err != nil {
		return nil, err
	}
	return answerOf[A](call)
}

// get calls an endpoint that takes no request, at path, which is that of the endpoint with
// any name filled in.
func get[Q, A any](ctx context.Context, c *Client, e api.Endpoint[Q, A], path string) (*A, error) {
	call, err := c.exchange(ctx, e.Method, http1.RouteKey{Path: path}, nil)
	if err != nil {
		return nil, err
	}
	return answerOf[A](call)
}

// exchange makes a call with the JSON of req, or without a body if req is nil. The caller
// frees it.
func (c *Client) exchange(ctx context.Context, method string, route http1.RouteKey, req any) (*http1.Call, error) {
	call := http1.NewCall(method, route)
	if req != nil {
		if err := encode(&call.Request, req); err != nil {
			call.Free()
			return nil, err
		}
	}

	deadline := time.Now().Add(c.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.pool.Do(ctx, call, deadline); err != nil {
		call.Free()
		return nil, c.sendError(err)
	}
	return call, nil
}

// answerOf returns the answer of a call, or the error that the daemon answered, and frees
// the call: the answer may hold a CEK or a plaintext.
func answerOf[A any](call *http1.Call) (*A, error) {
	defer call.Free()
	if call.Answer.Status != http.StatusOK {
		return nil, refusal(&call.Answer)
	}
	return decode[A](call.Answer.Body)
}

// Claims keep their bytes but for white space. The daemon refuses a name that appears twice
// in them, with an error that says which.
var encoding = json.JoinOptions(jsontext.PreserveRawStrings(true), jsontext.AllowDuplicateNames(true))

// encode appends the JSON of a request to a buffer of the caller's, who clears it: the
// encoder keeps no copy.
func encode(to *bytes.Buffer, req any) error {
	if err := json.MarshalWrite(to, req, encoding); err != nil {
		return fmt.Errorf("%w: encode the request: %w", signer.ErrInvalid, err)
	}
	return nil
}

var errNotAPI = errors.New("the answer is not what signetd's API describes: are client and daemon of different versions?")

// decode reads the JSON of an answer. The error does not hold that of the decoder, whose
// text could contain part of a secret.
func decode[A any](body []byte) (*A, error) {
	a := new(A)
	if json.Unmarshal(body, a) != nil {
		return nil, errNotAPI
	}
	return a, nil
}
