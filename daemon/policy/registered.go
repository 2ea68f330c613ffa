package policy

import (
	"bytes"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// This file reads the registered claims of RFC 7519 section 4.1, for signing and
// for verification alike.

// text reads a claim that is a string.
func (d *document) textClaim(name string) (s string, ok bool, err error) {
	raw := d.find(name)
	if raw == nil {
		return "", false, nil
	}
	s, ok = unquote(raw)
	if !ok || s == "" {
		return "", false, malformed(RuleType, name, name+" is not a string, or an empty one")
	}
	return s, true, nil
}

// unquote returns the string that raw, a JSON value, is.
func unquote(raw jsontext.Value) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true // it was read, and so is UTF-8 without anything to undo
	}
	text, err := jsontext.AppendUnquote(nil, []byte(raw))
	return string(text), err == nil
}

// date reads a NumericDate (RFC 7519 section 2) of whole seconds, in plain
// digits: 1e9 and 1.0 are numbers that some readers of dates do not take.
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

// anyDate reads a NumericDate in any form that RFC 7519 allows others to use. A
// part of a second is left out.
func (d *document) anyDate(name string) (t int64, ok bool, err error) {
	raw := d.find(name)
	if raw == nil {
		return 0, false, nil
	}
	if kind := raw.Kind(); kind != '0' {
		return 0, false, malformed(RuleType, name, name+" is not a number of seconds since 1970")
	}
	f, perr := strconv.ParseFloat(string(raw), 64)
	if perr != nil || f < 0 || f > maxInt {
		return 0, false, malformed(RuleType, name, name+" is not a number of seconds since 1970")
	}
	return int64(math.Floor(f)), true, nil
}

// audience reads "aud", a string or an array of them (RFC 7519 section 4.1.3),
// into the buffer that it is given.
func (d *document) audience(buf []string) ([]string, error) {
	raw := d.find("aud")
	if raw == nil {
		return nil, nil
	}
	if raw[0] == '"' {
		s, _, err := d.textClaim("aud")
		return append(buf, s), err
	}
	list, ok := stringsOf(raw, buf)
	if !ok {
		return nil, malformed(RuleType, "aud", "aud is neither a string nor an array of strings")
	}
	return list, nil
}

// stringsOf returns the strings of an array, which stands in compact form and was
// found to be well formed.
func stringsOf(raw jsontext.Value, buf []string) ([]string, bool) {
	ok := raw[0] == '['
	each(raw, func(element jsontext.Value) bool {
		var s string
		s, ok = unquote(element)
		buf = append(buf, s)
		return ok
	})
	return buf, ok
}

// each calls f with each element of an array in compact form, or with raw itself
// if it is no array, until f returns false.
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
