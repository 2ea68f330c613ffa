package daemon

import "signetd/daemon/api"

// decodeFast reads body into q as [decode] does, without reflection, if q points to one
// of the requests that are hot and body is written plainly: known members, once each,
// strings without escapes. It reports false for all else, and leaves q as it was;
// decode then has to say what it is, and whether anything is wrong with it.
//
// The claims of q are a part of body, and no copy: body must stay as it is until the
// request is done. Nothing else of q is.
func decodeFast(body []byte, q any) bool {
	switch q := q.(type) {
	case *api.SignJWTRequest:
		return decodeSignJWT(body, q)
	case *api.SignJWSRequest:
		return decodeSignJWS(body, q)
	case *api.SignDigestRequest:
		return decodeSignDigest(body, q)
	case *api.DecryptJWERequest:
		return decodeDecryptJWE(body, q)
	case *api.UnwrapCEKRequest:
		return decodeUnwrapCEK(body, q)
	}
	return false
}

func decodeSignJWT(body []byte, q *api.SignJWTRequest) bool {
	var r api.SignJWTRequest
	s := scanner{in: body}
	s.members(func(name []byte) {
		switch string(name) {
		case "key":
			r.Key = s.string()
		case "claims":
			r.Claims = s.claims()
		case "ttl":
			r.TTL = s.integer()
		case "alg":
			r.Alg = s.string()
		case "header":
			r.Header = s.header()
		default:
			s.fail()
		}
	})
	return finish(&s, q, r)
}

func decodeSignJWS(body []byte, q *api.SignJWSRequest) bool {
	var r api.SignJWSRequest
	s := scanner{in: body}
	s.members(func(name []byte) {
		switch string(name) {
		case "key":
			r.Key = s.string()
		case "payload":
			r.Payload = s.bytes()
		case "alg":
			r.Alg = s.string()
		case "header":
			r.Header = s.header()
		case "detached":
			r.Detached = s.boolean()
		case "serialization":
			r.Serialization = s.string()
		default:
			s.fail()
		}
	})
	return finish(&s, q, r)
}

func decodeSignDigest(body []byte, q *api.SignDigestRequest) bool {
	var r api.SignDigestRequest
	s := scanner{in: body}
	s.members(func(name []byte) {
		switch string(name) {
		case "key":
			r.Key = s.string()
		case "kid":
			r.KID = s.string()
		case "alg":
			r.Alg = s.string()
		case "digest":
			r.Digest = s.bytes()
		default:
			s.fail()
		}
	})
	return finish(&s, q, r)
}

func decodeDecryptJWE(body []byte, q *api.DecryptJWERequest) bool {
	var r api.DecryptJWERequest
	s := scanner{in: body}
	s.members(func(name []byte) {
		switch string(name) {
		case "jwe":
			r.JWE = s.string()
		case "key":
			r.Key = s.string()
		default:
			s.fail()
		}
	})
	return finish(&s, q, r)
}

// decodeUnwrapCEK leaves a request with an "epk" to the general decoder.
func decodeUnwrapCEK(body []byte, q *api.UnwrapCEKRequest) bool {
	var r api.UnwrapCEKRequest
	s := scanner{in: body}
	s.members(func(name []byte) {
		switch string(name) {
		case "key":
			r.Key = s.string()
		case "kid":
			r.KID = s.string()
		case "alg":
			r.Alg = s.string()
		case "encrypted_key":
			r.EncryptedKey = s.bytes()
		case "enc":
			r.Enc = s.string()
		case "apu":
			r.APU = s.bytes()
		case "apv":
			r.APV = s.bytes()
		case "iv":
			r.IV = s.bytes()
		case "tag":
			r.Tag = s.bytes()
		default:
			s.fail()
		}
	})
	return finish(&s, q, r)
}

// finish gives q what was read, if all went well.
func finish[Q any](s *scanner, q *Q, r Q) bool {
	ok := s.end()
	if ok {
		*q = r
	}
	return ok
}

// string reads a string without escapes.
func (s *scanner) string() string {
	at := s.text("")
	return string(s.in[at.from:at.to])
}

// bytes reads base64url.
func (s *scanner) bytes() api.Bytes {
	at := s.text("")
	var b api.Bytes
	if !s.failed && b.UnmarshalText(s.in[at.from:at.to]) != nil {
		s.fail()
	}
	return b
}

// claims reads an object and returns it as it stands, a part of what is read.
func (s *scanner) claims() []byte {
	if s.peek() != '{' {
		s.fail()
	}
	from := s.at
	s.skip()
	return s.in[from:s.at:s.at]
}

// integer reads a number in at most 18 digits, which fit, without a sign.
func (s *scanner) integer() int64 {
	s.peek()
	from := s.at
	s.digits()
	digits := s.in[from:s.at]
	if len(digits) > 18 || len(digits) > 1 && digits[0] == '0' {
		s.fail()
		return 0
	}
	var n int64
	for _, c := range digits {
		n = 10*n + int64(c-'0')
	}
	return n
}

func (s *scanner) boolean() bool {
	if s.peek() == 't' {
		s.literal("true")
		return true
	}
	s.literal("false")
	return false
}

func (s *scanner) header() *api.Header {
	h := &api.Header{}
	s.members(func(name []byte) {
		switch string(name) {
		case "typ":
			h.Typ = s.string()
		case "cty":
			h.Cty = s.string()
		default:
			s.fail()
		}
	})
	return h
}
