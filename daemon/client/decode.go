package client

import (
	"bytes"
	"encoding/json"
	"fmt"

	"signetd/daemon/api"
)

// decode reads the body of an answer into out, which is zero. It reports no cause:
// its text could hold part of the answer.
//
// The answers that are most frequent are decoded here if they look as this daemon
// writes them, all others by reflection. Both give the same.
func (a *answer) decode(out any) error {
	if decodePlain(a.body, out) || json.Unmarshal(a.body, out) == nil {
		return nil
	}
	return fmt.Errorf("the answer is not what signetd's API has (%d bytes): client and daemon of different versions?", len(a.body))
}

// decodePlain decodes a body if it can, and otherwise leaves out as it is.
func decodePlain(body []byte, out any) bool {
	d := decoder{bytes.TrimSuffix(body, []byte("\n")), true}
	switch a := out.(type) {
	case *results:
		return a.split(d.rest)
	case *api.SignJWTResponse:
		token := d.text(`{"token":`)
		kid := d.text(`,"kid":`)
		return d.end() && set(a, api.SignJWTResponse{Token: string(token), KID: string(kid)})
	case *api.SignDigestResponse:
		signature := d.bytes(`{"signature":`)
		kid := d.text(`,"kid":`)
		return d.end() && set(a, api.SignDigestResponse{Signature: signature, KID: string(kid)})
	case *api.UnwrapCEKResponse:
		cek := d.bytes(`{"cek":`)
		kid := d.text(`,"kid":`)
		if !d.end() {
			clear(cek)
			return false
		}
		return set(a, api.UnwrapCEKResponse{CEK: cek, KID: string(kid)})
	case *api.DecryptJWEResponse:
		return d.decryptJWE(a)
	default:
		return false
	}
}

func set[T any](to *T, v T) bool {
	*to = v
	return true
}

func (d *decoder) decryptJWE(a *api.DecryptJWEResponse) bool {
	plaintext := d.bytes(`{"plaintext":`)
	h := api.JWEHeader{Alg: string(d.text(`,"header":{"alg":`)), Enc: string(d.text(`,"enc":`))}
	h.KID = string(d.optional(`,"kid":`))
	h.Typ = string(d.optional(`,"typ":`))
	h.Cty = string(d.optional(`,"cty":`))
	kid := d.text(`},"kid":`)
	if !d.end() {
		clear(plaintext)
		return false
	}
	return set(a, api.DecryptJWEResponse{Plaintext: plaintext, Header: h, KID: string(kid)})
}

// A decoder reads JSON of one form. ok ends when something else comes.
type decoder struct {
	rest []byte
	ok   bool
}

// text reads name and a string without escapes, which is good as long as rest.
func (d *decoder) text(name string) []byte {
	rest, ok := bytes.CutPrefix(d.rest, []byte(name))
	if !ok || len(rest) == 0 || rest[0] != '"' {
		d.ok = false
		return nil
	}
	s, rest, ok := bytes.Cut(rest[1:], []byte(`"`))
	d.ok = d.ok && ok && plain(s)
	d.rest = rest
	return s
}

// optional is text if name comes next.
func (d *decoder) optional(name string) []byte {
	if !bytes.HasPrefix(d.rest, []byte(name)) {
		return nil
	}
	return d.text(name)
}

func (d *decoder) bytes(name string) []byte {
	var b api.Bytes
	if text := d.text(name); !d.ok || b.UnmarshalText(text) != nil {
		d.ok = false
		return nil
	}
	return b
}

// end reports whether all was as expected, and nothing follows.
func (d *decoder) end() bool { return d.ok && len(d.rest) == 1 && d.rest[0] == '}' }
