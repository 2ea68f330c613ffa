package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strconv"
)

// An Answer is what the daemon answered.
type Answer struct {
	Status     int
	RetryAfter string // the header of that name, or ""
	Body       []byte // valid until [Call.Free]
}

// maxAnswer is the length in bytes of the longest body. A request may have 1 MiB, and
// base64 of base64 makes it longer.
const maxAnswer = 4 << 20

var (
	// ErrTooLong means that the answer is longer than any that the daemon gives.
	ErrTooLong = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)

	errNotHTTP = errors.New("not an HTTP/1.1 answer")

	// errLast comes together with an answer after which the daemon closes the connection.
	errLast = errors.New("the daemon closes the connection")
)

// readAnswers reads the answers of the first n of calls: as many as are whole in the
// buffer. It waits for bytes only if the first answer does not fit the buffer.
func (conn *pipelinedConn) readAnswers(calls []*Call) (n int, err error) {
	for _, c := range calls {
		got, err := conn.readAnswer(&c.Answer, n == 0)
		if got {
			n++
		}
		if !got || err != nil {
			return n, err
		}
	}
	return n, nil
}

// readAnswer takes one answer out of the buffer, if it is there whole.
func (conn *pipelinedConn) readAnswer(a *Answer, first bool) (got bool, err error) {
	for {
		b, _ := conn.in.Peek(conn.in.Buffered())
		h, n, err := parseHead(b)
		switch {
		case err != nil:
			return false, err
		case n == 0 && len(b) == conn.in.Size():
			return false, errNotHTTP // a head that long
		case n == 0:
			return false, nil
		case h.status < 200: // an interim answer, such as 100 Continue
			_, _ = conn.in.Discard(n)
			continue
		case h.chunked || h.length < 0 || n+h.length > conn.in.Size():
			if !first {
				return false, nil
			}
			return conn.readLong(a, h, n)
		case len(b) < n+h.length:
			return false, nil
		}

		whole := b[:n+h.length]
		a.Status, a.RetryAfter, a.Body = h.status, h.retryAfter, append(a.Body[:0], whole[n:]...)
		clear(whole) // it may hold a key, and the next answer may be too short to overwrite it
		_, _ = conn.in.Discard(len(whole))
		return true, h.last()
	}
}

// readLong reads an answer that does not fit the buffer, or whose length is not in its
// head. The head has n bytes.
func (conn *pipelinedConn) readLong(a *Answer, h head, n int) (got bool, err error) {
	if h.length > maxAnswer && !h.chunked {
		return false, ErrTooLong
	}
	conn.partial = true
	_, _ = conn.in.Discard(n)
	a.Status, a.RetryAfter = h.status, h.retryAfter

	switch {
	case h.chunked:
		if a.Body, err = readAll(httputil.NewChunkedReader(conn.in)); err == nil {
			// The daemon sends no trailer fields: a connection on which some come is not
			// used again.
			var line []byte
			line, err = conn.in.ReadSlice('\n')
			h.close = h.close || len(bytes.TrimSpace(line)) > 0
		}
	case h.length >= 0:
		a.Body = make([]byte, h.length)
		_, err = io.ReadFull(conn.in, a.Body)
	default:
		a.Body, err = readAll(conn.in)
		h.close = true // the end of the connection was the end of the body
	}
	if err != nil {
		return false, err
	}
	conn.partial = false
	return true, h.last()
}

func readAll(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		return nil, ErrTooLong
	}
	return body, err
}

// A head is the status line of an answer and the header fields that matter here.
type head struct {
	status         int // 0 until the status line is read
	retryAfter     string
	length         int // of the body in bytes, or -1 if the head does not say
	chunked, close bool
}

// last returns errLast if the connection ends after this answer.
func (h *head) last() error {
	if h.close {
		return errLast
	}
	return nil
}

// parseHead parses the head of an answer at the start of b. n is the length of the head,
// or 0 if b ends before it.
func parseHead(b []byte) (h head, n int, err error) {
	h.length = -1
	for {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			return h, 0, nil
		}
		line := bytes.TrimSuffix(b[n:n+i], []byte("\r"))
		n += i + 1

		switch {
		case h.status == 0:
			err = h.parseStatusLine(line)
		case len(line) == 0:
			return h, n, nil
		default:
			err = h.parseField(line)
		}
		if err != nil {
			return h, 0, err
		}
	}
}

func (h *head) parseStatusLine(line []byte) error {
	code, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || len(code) < 3 {
		return errNotHTTP
	}
	status, err := strconv.Atoi(string(code[:3]))
	if err != nil || status < 100 {
		return errNotHTTP
	}
	h.status = status
	return nil
}

func (h *head) parseField(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return errNotHTTP
	}
	value = bytes.TrimSpace(value)
	is := func(want string) bool { return len(name) == len(want) && bytes.EqualFold(name, []byte(want)) }

	switch {
	case is("Content-Length"):
		// Two lengths that differ would let one answer pass for another (RFC 9112 section
		// 6.3, rule 5).
		n, err := strconv.ParseUint(string(value), 10, 31)
		if err != nil || h.length >= 0 && h.length != int(n) { // #nosec G115 -- of 31 bits
			return errNotHTTP
		}
		h.length = int(n) // #nosec G115 -- of 31 bits
	case is("Transfer-Encoding"):
		if h.chunked = bytes.EqualFold(value, []byte("chunked")); !h.chunked {
			return errNotHTTP
		}
	case is("Connection"):
		h.close = h.close || bytes.EqualFold(value, []byte("close"))
	case is("Retry-After"):
		h.retryAfter = string(value)
	}
	return nil
}
