package policy

import (
	"errors"
	"strings"
)

// A pattern is an exact text, or a prefix: a text that ends in a star, which
// stands for one character or more.
type pattern struct {
	text   string // without the star
	prefix bool
}

// boundaries are what a prefix may end in, so that what comes before is a whole
// name: "https://api.example.com*" would take "https://api.example.com.evil".
const boundaries = "/:.|#-_"

// parsePattern reads a pattern. Its errors do not hold it.
func parsePattern(s string) (pattern, error) {
	head, star := strings.CutSuffix(s, "*")
	switch {
	case s == "":
		return pattern{}, errors.New("an empty one")
	case strings.Contains(head, "*"):
		return pattern{}, errors.New("a star stands at the end or nowhere")
	case !star:
		return pattern{text: s}, nil
	case head == "":
		return pattern{}, errors.New("a star alone would take anything")
	case !strings.ContainsRune(boundaries, rune(head[len(head)-1])):
		return pattern{}, errors.New("before the star comes one of " + strings.Join(strings.Split(boundaries, ""), " ") +
			": without it, https://api.example.com* would take https://api.example.com.evil")
	case strayStar(head):
		return pattern{}, errors.New("in a URL the star comes after the host and a slash, as in https://api.example.com/*")
	}
	return pattern{text: head, prefix: true}, nil
}

// strayStar reports whether head is that of a URL and ends before its path: what
// follows could be another host ("https://*"), or make a user name of what looks
// like the host ("https://api.example.com:x@evil").
func strayStar(head string) bool {
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

// climbs reports whether rest, which a star stands for, could lead out of the
// prefix for whoever takes the whole for a URL or a path and cleans it: it has a
// segment of dots, a backslash, one of these in percent encoding, or a blank or
// control character.
func climbs(rest string) bool {
	if strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) {
		return true
	}
	if strings.Contains(rest, "%") {
		for _, code := range []string{"%2e", "%2f", "%5c"} {
			if strings.Contains(strings.ToLower(rest), code) {
				return true
			}
		}
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

// covers reports whether all that q matches p matches too.
func (p pattern) covers(q pattern) bool {
	if !q.prefix {
		return p.matches(q.text)
	}
	return p.prefix && (p.text == q.text || p.matches(q.text))
}

// matchesAny reports whether one of the patterns matches s.
func matchesAny(patterns []pattern, s string) bool {
	for _, p := range patterns {
		if p.matches(s) {
			return true
		}
	}
	return false
}

// coveredBy reports whether one of the patterns covers q.
func coveredBy(patterns []pattern, q pattern) bool {
	for _, p := range patterns {
		if p.covers(q) {
			return true
		}
	}
	return false
}
