package audit

import (
	"encoding/json"
	"strconv"
	"time"
)

// A Record is one line of the log.
type Record struct {
	Time    time.Time `json:"time"` // when the request was taken up, UTC
	Request string    `json:"request"`
	Item    int       `json:"item,omitempty"` // the place in a batch, from 1
	Peer    Peer      `json:"peer"`
	Op      string    `json:"op"`
	Key     string    `json:"key,omitempty"` // as the request names it, or that of the version that was used
	KID     string    `json:"kid,omitempty"` // of the version that was used
	Alg     string    `json:"alg,omitempty"`
	Outcome string    `json:"outcome"`          // "ok" or an error code
	Reason  string    `json:"reason,omitempty"` // the error, in words
	Rule    string    `json:"rule,omitempty"`   // by which claims or a token were refused
	JTI     string    `json:"jti,omitempty"`    // of the token that was signed or verified
	Exp     int64     `json:"exp,omitempty"`    // seconds since 1970
	// Digest is what the key signed, or what the signature that was verified is on,
	// in base64url: for a JWS the hash, by alg, of its signing input. It and not the
	// signature says which token it was, for an ECDSA signature has a twin that
	// anybody can compute.
	Digest string `json:"digest,omitempty"`
	// Object is the SHA-256, in base64url, of what was to be opened or was sealed: of
	// the JWE, or of the bytes of the encrypted key.
	Object string `json:"object_sha256,omitempty"`
	// To is whom something was encrypted for, if it is not Key: a name of the config, or
	// "jwk" and the RFC 7638 thumbprint of a key in the request.
	To string `json:"to,omitempty"`
	// SignedBy is the key, or the trusted issuer, of the token in a JWE.
	SignedBy string `json:"signed_by,omitempty"`
	// WouldDeny is what the claim policy of a key in dry-run would have refused. The
	// token was signed.
	WouldDeny []Denial `json:"would_deny,omitempty"`
}

// A Denial is a rule of a claim policy and the claim that breaks it.
type Denial struct {
	Rule  string `json:"rule"`
	Claim string `json:"claim,omitempty"`
}

// A Peer is the process that asked, as the kernel knows it.
type Peer struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	PID int32  `json:"pid"`
}

// appendJSON appends r to b as encoding/json has it, to the byte, and costs a
// fraction of it: every answer waits for its record. A time outside the years 0 to
// 9999, at which encoding/json fails, is written all the same.
func (r *Record) appendJSON(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = r.Time.AppendFormat(b, time.RFC3339Nano)
	b = appendString(append(b, `","request":`...), r.Request)
	b = appendNonZero(b, `,"item":`, int64(r.Item))
	b = r.Peer.appendJSON(append(b, `,"peer":`...))
	b = appendString(append(b, `,"op":`...), r.Op)
	b = appendNonEmpty(b, `,"key":`, r.Key)
	b = appendNonEmpty(b, `,"kid":`, r.KID)
	b = appendNonEmpty(b, `,"alg":`, r.Alg)
	b = appendString(append(b, `,"outcome":`...), r.Outcome)
	b = appendNonEmpty(b, `,"reason":`, r.Reason)
	b = appendNonEmpty(b, `,"rule":`, r.Rule)
	b = appendNonEmpty(b, `,"jti":`, r.JTI)
	b = appendNonZero(b, `,"exp":`, r.Exp)
	b = appendNonEmpty(b, `,"digest":`, r.Digest)
	b = appendNonEmpty(b, `,"object_sha256":`, r.Object)
	b = appendNonEmpty(b, `,"to":`, r.To)
	b = appendNonEmpty(b, `,"signed_by":`, r.SignedBy)
	if len(r.WouldDeny) > 0 {
		b = appendDenials(append(b, `,"would_deny":`...), r.WouldDeny)
	}
	return append(b, '}')
}

func (p Peer) appendJSON(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"uid":`...), uint64(p.UID), 10)
	b = strconv.AppendUint(append(b, `,"gid":`...), uint64(p.GID), 10)
	b = strconv.AppendInt(append(b, `,"pid":`...), int64(p.PID), 10)
	return append(b, '}')
}

func appendDenials(b []byte, denials []Denial) []byte {
	b = append(b, '[')
	for i, d := range denials {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"rule":`...), d.Rule)
		b = append(appendNonEmpty(b, `,"claim":`, d.Claim), '}')
	}
	return append(b, ']')
}

// appendNonEmpty appends a member unless its value is "": name is all up to the value.
func appendNonEmpty(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value)
}

// appendNonZero is appendNonEmpty for a number.
func appendNonZero(b []byte, name string, value int64) []byte {
	if value == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), value, 10)
}

// appendString appends s in quotes. What is not plain ASCII, or what encoding/json
// escapes, it is left to write.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string has no error
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
