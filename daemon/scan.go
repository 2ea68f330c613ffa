package daemon

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// The bounds of what a [scanner] takes: above them the general decoder is fast enough.
const (
	scanDepth = 16 // objects and arrays in each other
	scanNames = 64 // names of the objects that are open
)

// A scanner reads strict JSON (RFC 8259, RFC 7493) without reflection and without
// allocating. It takes plain text only: of what is unusual, be it right or wrong, it
// says that it failed, and the general decoder has to say what it is. What it takes the
// general decoder takes, and reads the same in it.
type scanner struct {
	in     []byte
	at     int
	failed bool
	depth  int
	names  [scanNames]extent // of the objects that are open, innermost last
	known  int               // how many these are
}

// An extent is a part of what a scanner reads.
type extent struct{ from, to int }

// An object is one that a scanner is in.
type object struct {
	name   []byte // of the member whose value is to be read next
	filled bool   // it has a member
	first  int    // of its names
}

func (s *scanner) fail() { s.failed = true }

// peek returns the next byte that is no blank, or 0 at the end.
func (s *scanner) peek() byte {
	for ; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// take reads c, after blanks, and reports whether it is there.
func (s *scanner) take(c byte) bool {
	if s.failed || s.peek() != c || s.at == len(s.in) {
		return false
	}
	s.at++
	return true
}

// want is take for what must be there.
func (s *scanner) want(c byte) {
	if !s.take(c) {
		s.fail()
	}
}

// end reports whether all went well; that something follows is a failure.
func (s *scanner) end() bool {
	if s.peek(); s.at < len(s.in) {
		s.fail()
	}
	return !s.failed
}

// members reads an object and calls value for each member, to read its value.
func (s *scanner) members(value func(name []byte)) {
	for o := s.object(); s.member(&o); {
		value(o.name)
	}
}

// object begins an object. Its members are read by a loop over [scanner.member].
func (s *scanner) object() object {
	s.want('{')
	if s.depth++; s.depth > scanDepth {
		s.fail()
	}
	return object{first: s.known}
}

// member reads the name of the next member of o, or the end of o. A name that is there
// twice has it fail.
func (s *scanner) member(o *object) bool {
	if s.failed {
		return false
	}
	if s.take('}') {
		s.depth--
		s.known = o.first
		return false
	}
	if o.filled {
		s.want(',')
	}
	o.filled = true
	name := s.text("")
	o.name = s.in[name.from:name.to]
	for _, other := range s.names[o.first:s.known] {
		if bytes.Equal(s.in[other.from:other.to], o.name) {
			s.fail()
		}
	}
	if s.known == scanNames {
		s.fail()
		return false
	}
	s.names[s.known] = name
	s.known++
	s.want(':')
	return !s.failed
}

// text reads a string and returns what is between the quotes. Of the escapes of two
// characters it takes those that are listed.
func (s *scanner) text(escapes string) extent {
	s.want('"')
	from, ascii := s.at, true
	for !s.failed {
		if s.at += plainRun(s.in[s.at:]); s.at == len(s.in) {
			break
		}
		c := s.in[s.at]
		s.at++
		switch {
		case c == '"':
			if !ascii && !utf8.Valid(s.in[from:s.at-1]) {
				s.fail()
			}
			return extent{from, s.at - 1}
		case c == '\\':
			if s.at == len(s.in) || strings.IndexByte(escapes, s.in[s.at]) < 0 {
				s.fail()
			}
			s.at++
		case c < ' ':
			s.fail()
		default:
			ascii = false
		}
	}
	s.fail()
	return extent{}
}

// plainRun returns how many bytes at the beginning of s stand in a JSON string as they
// are: ASCII without controls, quotes and backslashes. It looks at eight at a time, for a
// JWE is long: each term of odd is zero unless a byte is what it looks for.
func plainRun[S string | []byte](s S) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		quote, slash := w^ones*'"', w^ones*'\\'
		odd := w | (w-ones*' ')&^w | (quote-ones)&^quote | (slash-ones)&^slash
		if odd&high != 0 {
			break
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

// skip reads a value of any kind.
func (s *scanner) skip() {
	switch c := s.peek(); c {
	case '{':
		for o := s.object(); s.member(&o); {
			s.skip()
		}
	case '[':
		s.skipArray()
	case '"':
		s.text(`"\/bfnrt`) // \u may be half a surrogate pair
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	default:
		s.number()
	}
}

func (s *scanner) skipArray() {
	s.want('[')
	if s.depth++; s.depth > scanDepth {
		s.fail()
	}
	for filled := false; !s.failed && !s.take(']'); filled = true {
		if filled {
			s.want(',')
		}
		s.skip()
	}
	s.depth--
}

func (s *scanner) literal(text string) {
	if !bytes.HasPrefix(s.in[s.at:], []byte(text)) {
		s.fail()
		return
	}
	s.at += len(text) // what follows must be a mark that ends it, as after any value
}

// number reads a number (RFC 8259 section 6).
func (s *scanner) number() {
	s.sign("-")
	if s.at < len(s.in) && s.in[s.at] == '0' {
		s.at++
	} else {
		s.digits()
	}
	if s.at < len(s.in) && s.in[s.at] == '.' {
		s.at++
		s.digits()
	}
	if s.at < len(s.in) && (s.in[s.at] == 'e' || s.in[s.at] == 'E') {
		s.at++
		s.sign("+-")
		s.digits()
	}
}

// sign reads one of signs if it is there.
func (s *scanner) sign(signs string) {
	if s.at < len(s.in) && strings.IndexByte(signs, s.in[s.at]) >= 0 {
		s.at++
	}
}

// digits reads one digit or more.
func (s *scanner) digits() {
	from := s.at
	for s.at < len(s.in) && '0' <= s.in[s.at] && s.in[s.at] <= '9' {
		s.at++
	}
	if s.at == from {
		s.fail()
	}
}
