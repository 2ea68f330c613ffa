package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"signetd/signer"
)

// headRoom is more than the head of a request with a body takes: the paths of those
// are constants.
const headRoom = 160

// encode makes the request of c: by POST with the JSON of in, or by GET if in is nil.
// It may hold what is to be encrypted.
func (c *call) encode(in any) error {
	if in == nil {
		c.buffer = fmt.Appendf(c.buffer[:0], "GET %s HTTP/1.1\r\nHost: signetd\r\n\r\n", c.lane.path)
		c.request = c.buffer
		return nil
	}
	var room [headRoom]byte
	var err error
	if c.buffer, err = encodeBody(append(c.buffer[:0], room[:]...), in); err != nil {
		return err
	}
	h := append(append(append(room[:0], "POST "...), c.lane.path...), " HTTP/1.1\r\nHost: signetd\r\nContent-Type: application/json\r\nContent-Length: "...)
	h = append(strconv.AppendInt(h, int64(len(c.buffer)-headRoom), 10), "\r\n\r\n"...)
	c.request = c.buffer[headRoom-len(h):]
	copy(c.request, h) // the head stands before the body
	c.alone = c.alone || len(c.request) > maxShared
	return nil
}

// encodeBody appends the JSON of a request to dst. Claims go as they stand: without
// the escapes for HTML that package json adds if left alone.
func encodeBody(dst []byte, in any) ([]byte, error) {
	b := bytes.NewBuffer(dst)
	j := json.NewEncoder(b)
	j.SetEscapeHTML(false)
	if err := j.Encode(in); err != nil {
		return dst, fmt.Errorf("%w: encode the request: %w", signer.ErrInvalid, err)
	}
	return b.Bytes(), nil
}
