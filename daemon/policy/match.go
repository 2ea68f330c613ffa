package policy

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// A pattern is an exact text, or a prefix: a text that ends in a star, which stands for
// one character or more.
type pattern struct {
	text   string // without the star
	prefix bool
}

// boundaries are the characters that a prefix may end in, so that the part before it is
// a whole name: "https://api.example.com*" would match "https://api.example.com.evil".
const boundaries = "/:.|#-_"

// parsePattern reads a pattern. Its errors do not contain the pattern.
func parsePattern(s string) (pattern, error) {
	head, star := strings.CutSuffix(s, "*")
	switch {
	case s == "":
		return pattern{}, errors.New("is empty")
	case strings.Contains(head, "*"):
		return pattern{}, errors.New("a star is only allowed at the end")
	case !star:
		return pattern{text: s}, nil
	case head == "":
		return pattern{}, errors.New("a star alone would match anything")
	case !strings.ContainsRune(boundaries, rune(head[len(head)-1])):
		return pattern{}, errors.New("the character before the star must be one of " + strings.Join(strings.Split(boundaries, ""), " ") +
			": otherwise https://api.example.com* would match https://api.example.com.evil")
	case endsBeforePath(head):
		return pattern{}, errors.New("in a URL the star must come after the host and a slash, as in https://api.example.com/*")
	}
	return pattern{text: head, prefix: true}, nil
}

// endsBeforePath reports whether head is the beginning of a URL and ends before its
// path. The star could then stand for another host ("https://*"), or turn what looks
// like the host into a user name ("https://api.example.com:x@evil").
func endsBeforePath(head string) bool {
	_, rest, isURL := strings.Cut(head, "://")
	return isURL && strings.IndexByte(rest, '/') < 1
}

func (p pattern) matches(s string) bool {
	if !p.prefix {
		return s == p.text
	}
	rest, ok := strings.CutPrefix(s, p.text)
	return ok && rest != "" && !climbs(rest)
}

// climbs reports whether rest, the text that a star stands for, could lead out of the
// prefix in a reader that takes the whole for a URL or a path and normalizes it: it has
// a segment "." or "..", a backslash, one of these in percent encoding, or a blank or
// control character.
func climbs(rest string) bool {
	if strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) {
		return true
	}

	if low := strings.ToLower(rest); strings.Contains(low, "%2e") || strings.Contains(low, "%2f") || strings.Contains(low, "%5c") {
		return true
	}

	for segment := range strings.SplitSeq(rest, "/") {
		if end := strings.IndexAny(segment, "?#;"); end >= 0 {
			segment = segment[:end]
		}
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// covers reports whether p matches everything that q matches.
func (p pattern) covers(q pattern) bool {
	if !q.prefix {
		return p.matches(q.text)
	}
	return p.prefix && (p.text == q.text || p.matches(q.text))
}

func matchesAny(patterns []pattern, s string) bool {
	return slices.ContainsFunc(patterns, func(p pattern) bool { return p.matches(s) })
}

// secretNames are the names of members that hold secrets, or numbers that open an
// account. Anybody who sees a signed token can read them. They are in the form that
// [normalize] returns.
var secretNames = []string{
	"password", "passwd", "passphrase", "passcode", "passwordhash", "pwd", "pin", "pincode", "otp", "totpsecret", "mfasecret",
	"secret", "secretkey", "privatekey", "apikey", "apitoken", "encryptionkey", "signingkey", "masterkey", "credentials",
	"accesskey", "secretaccesskey", "accesstoken", "refreshtoken", "sessiontoken", "sessioncookie", "idtoken", "bearertoken",
	"ssn", "socialsecurity", "socialsecuritynumber", "socialinsurancenumber", "nationalinsurancenumber", "passportnumber", "taxid",
	"creditcard", "debitcard", "creditcardnumber", "cardnumber", "cardno", "ccnumber", "ccnum", "pan", "cvv", "cvv2", "cvc", "cvc2",
	"cardverificationcode", "cardverificationvalue", "securitycode", "bankaccountnumber",
}

// secretEndings make a secret of every name that ends in one of them: "dbPassword",
// "client_secret".
var secretEndings = []string{"password", "passwd", "passphrase", "secret", "privatekey", "apikey", "cardnumber"}

// A secretSet tells which names are those of secrets: true for a secret, false for a name
// that the config declares harmless.
type secretSet map[string]bool

// newSecretSet returns the set of the usual names, with more and without others.
func newSecretSet(more, without []string) secretSet {
	s := make(secretSet, len(secretNames)+len(more)+len(without))
	for _, name := range secretNames {
		s[name] = true
	}
	for _, name := range without {
		s[normalize(name)] = false
	}
	for _, name := range more {
		s[normalize(name)] = true
	}
	return s
}

// find returns the entry of the set that makes a normalized name one of a secret, or "".
func (s secretSet) find(normal []byte) string {
	// The last part of a name in a namespace: "password" of "https://example.com/password".
	const separators = "/:#"
	last := bytes.TrimRight(normal, separators)
	last = last[bytes.LastIndexAny(last, separators)+1:]

	for _, name := range [][]byte{normal, last} {
		if secret, ok := s[string(name)]; ok {
			if !secret {
				return ""
			}
			return string(name)
		}
	}

	for _, ending := range secretEndings {
		if bytes.HasSuffix(last, []byte(ending)) {
			return ending
		}
	}
	return ""
}
