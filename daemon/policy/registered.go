package policy

import (
	"bytes"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// This file reads the registered claims of RFC 7519 section 4.1, both for claims that
// are to be signed and for tokens that are to be verified.

// textClaim reads a claim that must be a string, and not an empty one. ok is false if
// the document does not have it.
func (d *document) textClaim(name string) (s string, ok bool, err error) {
	raw := d.find(name)
	if raw == nil {
		return "", false, nil
	}

	s, ok = unquote(raw)
	if !ok || s == "" {
		return "", false, malformed(RuleType, name, name+" is not a string, or is empty")
	}
	return s, true, nil
}

// unquote returns the text of raw if it is a JSON string.
func unquote(raw jsontext.Value) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}

	// The reader has found raw to be well formed, so text without a backslash is UTF-8
	// that needs no unescaping.
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	text, err := jsontext.AppendUnquote(nil, []byte(raw))
	return string(text), err == nil
}

// date reads a NumericDate (RFC 7519 section 2) of claims that are to be signed. It
// must be whole seconds in plain digits, because some readers of dates do not take
// 1e9 or 1.0.
func (d *document) date(name string) (t int64, ok bool, err error) {
	raw := d.find(name)
	if raw == nil {
		return 0, false, nil
	}

	t, perr := strconv.ParseInt(string(raw), 10, 64)
	if perr != nil || raw[0] == '-' {
		return 0, false, malformed(RuleType, name, name+" is not a whole number of seconds since 1970, in digits")
	}
	return t, true, nil
}

// anyDate reads a NumericDate of a token from another party, in any form that RFC 7519
// allows. It rounds down to a whole second.
func (d *document) anyDate(name string) (t int64, ok bool, err error) {
	raw := d.find(name)
	if raw == nil {
		return 0, false, nil
	}

	f, perr := strconv.ParseFloat(string(raw), 64)
	if raw.Kind() != '0' || perr != nil || f < 0 || f > maxInt {
		return 0, false, malformed(RuleType, name, name+" is not a number of seconds since 1970")
	}
	return int64(math.Floor(f)), true, nil
}

// audience appends the values of "aud" to buf. The claim is a string or an array of
// strings (RFC 7519 section 4.1.3).
func (d *document) audience(buf []string) ([]string, error) {
	raw := d.find("aud")
	if raw == nil {
		return nil, nil
	}
	if raw[0] == '"' {
		s, _, err := d.textClaim("aud")
		return append(buf, s), err
	}

	ok := raw[0] == '['
	each(raw, func(value jsontext.Value) bool {
		var s string
		s, ok = unquote(value)
		buf = append(buf, s)
		return ok
	})
	if !ok {
		return nil, malformed(RuleType, "aud", "aud is neither a string nor an array of strings")
	}
	return buf, nil
}

// each calls f with each element of an array in compact form, or with raw itself if it
// is no array, until f returns false.
func each(raw jsontext.Value, f func(jsontext.Value) bool) {
	if raw[0] != '[' {
		f(raw)
		return
	}

	from, depth, quoted := 1, 0, false
	for i := 1; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && (c == ',' || c == ']'):
			if i > from && !f(raw[from:i]) {
				return
			}
			from = i + 1
		}
	}
}
