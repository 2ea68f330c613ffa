package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"

	"signetd/daemon/api"
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
//
// The requests that are most frequent are encoded here, the others, and those with
// strings that need escapes, by reflection. Both give the same bytes.
func encodeBody(dst []byte, in any) ([]byte, error) {
	b, ok := dst, false
	if batch, is := in.(interface{ appendPlain([]byte) ([]byte, bool) }); is {
		b, ok = batch.appendPlain(dst)
	} else {
		b, ok = appendPlain(dst, in)
	}
	if ok {
		return append(b, '\n'), nil
	}
	clear(b[len(dst):])
	out := bytes.NewBuffer(b[:len(dst)])
	j := json.NewEncoder(out)
	j.SetEscapeHTML(false)
	if err := j.Encode(in); err != nil {
		return b, fmt.Errorf("%w: encode the request: %w", signer.ErrInvalid, err)
	}
	return out.Bytes(), nil
}

// appendPlain appends the JSON of a request, given as it is or by a pointer, if it can
// do so. If not, what it has written is of no use.
func appendPlain(dst []byte, in any) ([]byte, bool) {
	e := encoder{dst, true}
	switch q := in.(type) {
	case api.SignJWTRequest:
		e.signJWT(&q)
	case *api.SignJWTRequest:
		e.signJWT(q)
	case api.SignDigestRequest:
		e.signDigest(&q)
	case *api.SignDigestRequest:
		e.signDigest(q)
	case api.DecryptJWERequest:
		e.decryptJWE(&q)
	case *api.DecryptJWERequest:
		e.decryptJWE(q)
	case api.UnwrapCEKRequest:
		e.unwrapCEK(&q)
	case *api.UnwrapCEKRequest:
		e.unwrapCEK(q)
	default:
		return dst, false
	}
	return append(e.dst, '}'), e.ok
}

func (e *encoder) decryptJWE(q *api.DecryptJWERequest) {
	e.text(`{"jwe":`, q.JWE)
	e.optional(`,"key":`, q.Key)
}

// An encoder appends members to JSON. ok ends when something comes that it cannot
// write.
type encoder struct {
	dst []byte
	ok  bool
}

func (e *encoder) signJWT(q *api.SignJWTRequest) {
	e.text(`{"key":`, q.Key)
	e.claims(q.Claims)
	if q.TTL != 0 {
		e.dst = strconv.AppendInt(append(e.dst, `,"ttl":`...), q.TTL, 10)
	}
	e.optional(`,"alg":`, q.Alg)
	if q.Header == nil {
		return
	}
	switch typ, cty := q.Header.Typ, q.Header.Cty; {
	case cty != "":
		e.ok = false
	case typ != "":
		e.text(`,"header":{"typ":`, typ)
		e.dst = append(e.dst, '}')
	default:
		e.dst = append(e.dst, `,"header":{}`...)
	}
}

func (e *encoder) signDigest(q *api.SignDigestRequest) {
	e.text(`{"key":`, q.Key)
	e.optional(`,"kid":`, q.KID)
	e.text(`,"alg":`, q.Alg)
	e.bytes(`,"digest":`, q.Digest)
}

func (e *encoder) unwrapCEK(q *api.UnwrapCEKRequest) {
	e.dst = append(e.dst, '{')
	if q.Key != "" {
		e.text(`"key":`, q.Key)
		e.dst = append(e.dst, ',')
	}
	if q.KID != "" {
		e.text(`"kid":`, q.KID)
		e.dst = append(e.dst, ',')
	}
	e.text(`"alg":`, q.Alg)
	e.bytes(`,"encrypted_key":`, q.EncryptedKey)
	e.optional(`,"enc":`, q.Enc)
	e.ok = e.ok && q.EPK == nil
	e.optionalBytes(`,"apu":`, q.APU)
	e.optionalBytes(`,"apv":`, q.APV)
	e.optionalBytes(`,"iv":`, q.IV)
	e.optionalBytes(`,"tag":`, q.Tag)
}

// text appends a member that is a string, behind name.
func (e *encoder) text(name, s string) {
	e.ok = e.ok && plain(s)
	e.dst = append(append(append(append(e.dst, name...), '"'), s...), '"')
}

func (e *encoder) optional(name, s string) {
	if s != "" {
		e.text(name, s)
	}
}

func (e *encoder) bytes(name string, b []byte) {
	e.dst = base64.RawURLEncoding.AppendEncode(append(append(e.dst, name...), '"'), b)
	e.dst = append(e.dst, '"')
}

func (e *encoder) optionalBytes(name string, b []byte) {
	if len(b) > 0 {
		e.bytes(name, b)
	}
}

// claims appends a JSON value without its white space.
func (e *encoder) claims(value json.RawMessage) {
	if value == nil {
		e.ok = false
		return
	}
	b := bytes.NewBuffer(append(e.dst, `,"claims":`...))
	e.ok = json.Compact(b, value) == nil && e.ok
	e.dst = b.Bytes()
}

// plain reports whether s is ASCII that JSON has without escapes.
func plain[T string | []byte](s T) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
