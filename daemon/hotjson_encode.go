package daemon

import (
	"encoding/base64"
	"slices"

	"signetd/daemon/api"
)

// appendFast appends answer to b in the bytes that json.Marshal gives, without
// reflection, if it points to one of the answers that are hot and all its texts stand in
// JSON as they are. Otherwise it reports false and has written nothing: json.Marshal has
// to.
//
// It makes room first, and clears b if it has to move what is in it, so that no copy of
// a plaintext is left behind in a buffer that was too short: the caller clears what it
// returns.
func appendFast(b []byte, answer any) ([]byte, bool) {
	e := encoder{b}
	switch a := answer.(type) {
	case *api.SignJWTResponse:
		if !e.grow(0, a.Token, a.KID) {
			return b, false
		}
		e.text(`{"token":"`, a.Token)
		e.text(`","kid":"`, a.KID)
	case *api.SignJWSResponse:
		if !e.grow(0, a.JWS, a.Protected, a.Signature, a.KID) {
			return b, false
		}
		e.text(`{"jws":"`, a.JWS)
		e.text(`","protected":"`, a.Protected)
		e.text(`","signature":"`, a.Signature)
		e.text(`","kid":"`, a.KID)
	case *api.SignDigestResponse:
		if !e.grow(len(a.Signature), a.KID) {
			return b, false
		}
		e.bytes(`{"signature":"`, a.Signature)
		e.text(`","kid":"`, a.KID)
	case *api.UnwrapCEKResponse:
		if !e.grow(len(a.CEK), a.KID) {
			return b, false
		}
		e.bytes(`{"cek":"`, a.CEK)
		e.text(`","kid":"`, a.KID)
	case *api.DecryptJWEResponse:
		return appendDecrypted(b, a)
	default:
		return b, false
	}
	return append(e.out, `"}`...), true
}

func appendDecrypted(b []byte, a *api.DecryptJWEResponse) ([]byte, bool) {
	e, h := encoder{b}, &a.Header
	if !e.grow(len(a.Plaintext), a.KID, h.Alg, h.Enc, h.KID, h.Typ, h.Cty) {
		return b, false
	}
	e.bytes(`{"plaintext":"`, a.Plaintext)
	e.text(`","header":{"alg":"`, h.Alg)
	e.text(`","enc":"`, h.Enc)
	e.optional(`","kid":"`, h.KID)
	e.optional(`","typ":"`, h.Typ)
	e.optional(`","cty":"`, h.Cty)
	e.text(`"},"kid":"`, a.KID)
	return append(e.out, `"}`...), true
}

// An encoder writes the members of an answer, which are all strings: what goes before a
// value begins with the end of the one before.
type encoder struct{ out []byte }

// grow makes room for n bytes in base64url, texts, and all that is round them. It
// reports whether every text can stand as it is.
func (e *encoder) grow(n int, texts ...string) bool {
	const names = 128 // more than those of any answer, with all marks
	room := names + base64.RawURLEncoding.EncodedLen(n)
	for _, s := range texts {
		if plainRun(s) < len(s) {
			return false
		}
		room += len(s)
	}
	if old := e.out; cap(old)-len(old) < room {
		e.out = slices.Grow(slices.Clip(old), room)
		clear(old)
	}
	return true
}

func (e *encoder) text(before, value string) {
	e.out = append(append(e.out, before...), value...)
}

// optional is text for a member that is left out if it is empty.
func (e *encoder) optional(before, value string) {
	if value != "" {
		e.text(before, value)
	}
}

// bytes is text in base64url.
func (e *encoder) bytes(before string, value []byte) {
	e.out = base64.RawURLEncoding.AppendEncode(append(e.out, before...), value)
}
