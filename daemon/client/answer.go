package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strconv"
)

// An answer is the whole of what the daemon answered.
type answer struct {
	status     int
	retryAfter string
	body       []byte
}

// errAnswer means that what came is no HTTP.
var errAnswer = errors.New("not an HTTP/1.1 answer")

// errTooLong means that the daemon answers more than it ever has to say.
var errTooLong = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)

// errLast comes with an answer behind which the connection has no other.
var errLast = errors.New("the daemon closes the connection")

// answers reads the answers of the first n of calls: as many as are whole in the
// buffer. It waits for nothing, except for the rest of an answer that is the first
// and has to be read in parts.
func (p *pipe) answers(calls []*call) (n int, err error) {
	for _, c := range calls {
		got, err := p.answer(&c.answer, n == 0)
		if got {
			n++
		}
		if !got || err != nil {
			return n, err
		}
	}
	return n, nil
}

// answer takes an answer out of the buffer if it is there.
func (p *pipe) answer(a *answer, first bool) (got bool, err error) {
	for {
		b, _ := p.in.Peek(p.in.Buffered())
		h, n, err := parseHead(b)
		switch {
		case err != nil:
			return false, err
		case n == 0 && len(b) == p.in.Size():
			return false, errAnswer
		case n == 0:
			return false, nil
		case h.status < 200: // those before are not the answer yet
			_, _ = p.in.Discard(n) // it is there
			continue
		case h.chunked || h.length < 0 || n+h.length > p.in.Size():
			if !first {
				return false, nil
			}
			return p.long(a, h, n)
		case len(b) < n+h.length:
			return false, nil
		}
		whole := b[:n+h.length]
		a.status, a.retryAfter, a.body = h.status, h.retryAfter, append(a.body[:0], whole[n:]...)
		clear(whole) // the next may be a refusal and leave the rest of a key there
		_, _ = p.in.Discard(len(whole))
		return true, h.last()
	}
}

// long reads an answer that does not fit the buffer, or whose length is to be seen. Its
// head has n bytes.
func (p *pipe) long(a *answer, h head, n int) (got bool, err error) {
	if h.length > maxAnswer && !h.chunked {
		return false, errTooLong
	}
	p.begun = true
	_, _ = p.in.Discard(n)
	a.status, a.retryAfter = h.status, h.retryAfter
	switch {
	case h.chunked:
		if a.body, err = readAll(httputil.NewChunkedReader(p.in)); err == nil {
			err = p.trailer(&h)
		}
	case h.length >= 0:
		a.body = make([]byte, h.length)
		_, err = io.ReadFull(p.in, a.body)
	default:
		a.body, err = readAll(p.in)
		h.close = true // it ended with the connection
	}
	if err != nil {
		return false, err
	}
	p.begun = false
	return true, h.last()
}

func readAll(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		return nil, errTooLong
	}
	return body, err
}

// trailer reads the end of a body in chunks. The daemon sends no trailers, so that
// what has some is the last that is read.
func (p *pipe) trailer(h *head) error {
	line, err := p.in.ReadSlice('\n')
	h.close = h.close || len(bytes.TrimSpace(line)) > 0
	return err
}

// whole says of an end in the middle that it is none.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A head is the status line of an answer and what its headers say about the rest.
type head struct {
	status         int
	retryAfter     string
	length         int // of the body in bytes, or -1
	chunked, close bool
}

func (h *head) last() error {
	if h.close {
		return errLast
	}
	return nil
}

// parseHead parses the head of an answer at the start of b. n is its length, or 0
// if it is not there whole.
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
			err = h.statusLine(line)
		case len(line) == 0:
			return h, n, nil
		default:
			err = h.field(line)
		}
		if err != nil {
			return h, 0, err
		}
	}
}

func (h *head) statusLine(line []byte) error {
	code, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || len(code) < 3 {
		return errAnswer
	}
	status, err := strconv.Atoi(string(code[:3]))
	if err != nil || status < 100 {
		return errAnswer
	}
	h.status = status
	return nil
}

// field reads one header.
func (h *head) field(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return errAnswer
	}
	value = bytes.TrimSpace(value)
	is := func(want string) bool { return len(name) == len(want) && bytes.EqualFold(name, []byte(want)) }
	switch {
	case is("Content-Length"):
		n, err := strconv.ParseUint(string(value), 10, 31)
		if err != nil || h.length >= 0 && h.length != int(n) { // #nosec G115 -- of 31 bits
			return errAnswer
		}
		h.length = int(n) // #nosec G115 -- of 31 bits
	case is("Transfer-Encoding"):
		if h.chunked = bytes.EqualFold(value, []byte("chunked")); !h.chunked {
			return errAnswer
		}
	case is("Connection"):
		h.close = h.close || bytes.EqualFold(value, []byte("close"))
	case is("Retry-After"):
		h.retryAfter = string(value)
	}
	return nil
}
