package server

import (
	"bytes"
	"net/http"
)

// maxHeader bounds the request line and the headers of a request, in bytes.
const maxHeader = 8 << 10

// A head is what the request line and the headers of a usual request say.
type head struct {
	method string
	path   []byte
	length int  // of the body in bytes
	last   bool // the peer sends nothing after it
	size   int  // of the head itself in bytes
}

// A parseResult is what readHead found.
type parseResult int

const (
	complete parseResult = iota // the head of a request that the fast path serves
	partial                     // the beginning of one
	unusual                     // a request for net/http
)

// maxFastBody bounds the bodies, in bytes, that the fast path reads. Longer ones are rare,
// and net/http takes memory for them only as they come in.
const maxFastBody = 64 << 10

var endOfHead = []byte("\r\n\r\n")

// readHead reads the head of a request (RFC 9112) if it is a usual one: GET, or POST with
// a Content-Length; a path of letters, digits and dashes; and no header that asks for
// anything but the answer. All else, right or wrong, is for net/http.
func readHead(in []byte) (head, parseResult) {
	end := bytes.Index(in, endOfHead)
	if end < 0 {
		// A head whose lines end in LF alone may be whole.
		if len(in) >= maxHeader || bytes.Count(in, []byte("\n")) > bytes.Count(in, []byte("\r\n")) {
			return head{}, unusual
		}
		return head{}, partial
	}

	line, lines, _ := bytes.Cut(in[:end+2], []byte("\r\n"))
	h := head{length: -1, size: end + len(endOfHead)}
	if end >= maxHeader || !h.readLine(line) {
		return h, unusual
	}

	host := false
	for len(lines) > 0 {
		line, lines, _ = bytes.Cut(lines, []byte("\r\n"))
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !isToken(name) || !isText(value) {
			return h, unusual
		}

		if isHeader(name, "Host") {
			if host { // RFC 9112 section 3.2
				return h, unusual
			}
			host = true
		} else if !h.note(name, bytes.Trim(value, " \t")) {
			return h, unusual
		}
	}

	if h.length < 0 {
		h.length = 0
	}
	if !host || h.length > maxFastBody || h.method == http.MethodGet && h.length > 0 {
		return h, unusual
	}
	return h, complete
}

// readLine reads the request line.
func (h *head) readLine(line []byte) bool {
	method, rest, _ := bytes.Cut(line, []byte(" "))
	path, version, _ := bytes.Cut(rest, []byte(" "))
	switch string(method) {
	case http.MethodPost:
		h.method = http.MethodPost
	case http.MethodGet:
		h.method = http.MethodGet
	default:
		return false
	}

	h.path = path
	if len(path) == 0 || path[0] != '/' || string(version) != "HTTP/1.1" {
		return false
	}
	for _, b := range path {
		if b != '/' && b != '-' && b != '_' && !isAlphanumeric(b) {
			return false
		}
	}
	return true
}

// note reads a header, and reports false for one that asks for more than we do.
func (h *head) note(name, value []byte) bool {
	switch {
	case isHeader(name, "Content-Length"):
		if h.length >= 0 || len(value) == 0 || len(value) > 6 {
			return false
		}

		h.length = 0
		for _, b := range value {
			if b < '0' || b > '9' {
				return false
			}
			h.length = h.length*10 + int(b-'0')
		}
	case isHeader(name, "Connection"):
		closes := isHeader(value, "close")
		h.last = h.last || closes
		return closes || isHeader(value, "keep-alive")
	case isHeader(name, "Transfer-Encoding"), isHeader(name, "Expect"), isHeader(name, "Upgrade"), isHeader(name, "Trailer"):
		return false
	}
	return true
}

func isHeader(name []byte, want string) bool {
	return len(name) == len(want) && bytes.EqualFold(name, []byte(want))
}

func isAlphanumeric(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}

// isToken reports whether b is a header's name (RFC 9110 section 5.6.2) of the
// characters that names have in practice.
func isToken(b []byte) bool {
	for _, c := range b {
		if c != '-' && c != '_' && !isAlphanumeric(c) {
			return false
		}
	}
	return len(b) > 0
}

// isText reports whether b has no control characters (RFC 9110 section 5.5).
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
