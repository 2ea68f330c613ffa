package policy

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is how deep objects and arrays may stand in each other whatever the
// config says: the claims are depth 1.
const maxDepth = 64

// A span is a part of one of a document's buffers.
type span struct{ from, to int }

func (s span) of(buf []byte) []byte { return buf[s.from:s.to] }

// A member is one of the claims: its name in text, its value in out.
type member struct{ name, value span }

// A frame is an object or array that is being read.
type frame struct {
	object bool
	filled bool // it has an element or a name
	named  bool // it has a name that waits for its value
	folded int  // how many names were on the stack of folded names before it
}

// A document is a JSON object that was read in such a way that everybody reads
// the same in it. It comes from and goes back to a pool; what it hands out does
// not outlive release.
type document struct {
	out     []byte   // the object in compact form, its last brace missing
	text    []byte   // names as they are meant, in three forms
	members []member // in order
	normal  []span   // every name at any depth, normalized
	depth   int      // of the deepest object or array

	in     bytes.Buffer
	dec    *jsontext.Decoder
	frames []frame
	folded []span // names of the objects that are open, innermost last
}

var documents = sync.Pool{New: func() any { return &document{dec: jsontext.NewDecoder(new(bytes.Buffer))} }}

// maxPooled is the size above which buffers are left to the garbage collector.
const maxPooled = 64 << 10

// readDocument reads data, or returns a *Denial that says what is wrong with it.
func readDocument(data []byte) (*document, error) {
	d := documents.Get().(*document)
	d.in = *bytes.NewBuffer(data)
	d.dec.Reset(&d.in)
	if err := d.read(); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// release wipes d, which held what a peer wants signed, and gives it back.
func (d *document) release() {
	clear(d.out)
	clear(d.text)
	if cap(d.out)+cap(d.text) > maxPooled {
		return
	}
	d.in = bytes.Buffer{}
	d.dec.Reset(&d.in)
	d.out, d.text, d.members, d.normal, d.depth = d.out[:0], d.text[:0], d.members[:0], d.normal[:0], 0
	d.frames, d.folded = d.frames[:0], d.folded[:0]
	documents.Put(d)
}

// notStrict says what the JSON library found. Its own words hold names.
func notStrict(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return malformed(RuleDuplicate, "", "a member is there twice")
	}
	return malformed(RuleJSON, "", "not strict JSON: bad syntax, invalid UTF-8 or half a surrogate pair")
}

func (d *document) read() error {
	if d.dec.PeekKind() != '{' {
		return malformed(RuleJSON, "", "not a JSON object")
	}
	for first := true; first || len(d.frames) > 0; first = false {
		if err := d.next(); err != nil {
			return err
		}
	}
	if _, err := d.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return malformed(RuleJSON, "", "something follows the JSON object")
	}
	d.out = d.out[:len(d.out)-1]
	return nil
}

// next reads a name, a scalar, or the beginning or end of an object or array.
func (d *document) next() error {
	switch kind := byte(d.dec.PeekKind()); kind {
	case '{', '[':
		if _, err := d.dec.ReadToken(); err != nil {
			return notStrict(err)
		}
		if len(d.frames) == maxDepth {
			return malformed(RuleMaxDepth, "", "objects and arrays stand too deep in each other")
		}
		d.begin()
		d.frames = append(d.frames, frame{object: kind == '{', folded: len(d.folded)})
		d.depth = max(d.depth, len(d.frames))
		d.out = append(d.out, kind)
	case '}', ']':
		if _, err := d.dec.ReadToken(); err != nil {
			return notStrict(err)
		}
		f := d.frames[len(d.frames)-1]
		if err := d.checkFolded(f.folded); err != nil {
			return err
		}
		d.folded = d.folded[:f.folded]
		d.frames = d.frames[:len(d.frames)-1]
		d.out = append(d.out, kind)
		d.end()
	default:
		raw, err := d.dec.ReadValue()
		if err != nil {
			return notStrict(err)
		}
		if f := &d.frames[len(d.frames)-1]; f.object && !f.named {
			return d.name(raw)
		}
		if err := d.checkScalar(raw); err != nil {
			return err
		}
		d.begin()
		d.out = append(d.out, raw...)
		d.end()
	}
	return nil
}

// begin notes that a value begins.
func (d *document) begin() {
	if len(d.frames) == 0 {
		return
	}
	f := &d.frames[len(d.frames)-1]
	if f.named {
		f.named = false
	} else {
		if f.filled {
			d.out = append(d.out, ',')
		}
		f.filled = true
	}
	if len(d.frames) == 1 {
		d.members[len(d.members)-1].value.from = len(d.out)
	}
}

// end notes that a value has ended.
func (d *document) end() {
	if len(d.frames) == 1 {
		d.members[len(d.members)-1].value.to = len(d.out)
	}
}

// name takes the name of a member.
func (d *document) name(raw jsontext.Value) error {
	f := &d.frames[len(d.frames)-1]
	if f.filled {
		d.out = append(d.out, ',')
	}
	f.filled, f.named = true, true
	from := len(d.text)
	d.text, _ = jsontext.AppendUnquote(d.text, []byte(raw)) // ReadValue found it to be a string
	name := span{from, len(d.text)}
	d.text = appendFolded(d.text, name.of(d.text))
	folded := span{name.to, len(d.text)}
	d.text = appendNormalized(d.text, folded.of(d.text))
	d.folded = append(d.folded, folded)
	d.normal = append(d.normal, span{folded.to, len(d.text)})
	if err := checkName(name.of(d.text), folded.of(d.text), len(d.frames) == 1); err != nil {
		return err
	}
	if len(d.frames) == 1 {
		d.members = append(d.members, member{name: name})
	}
	d.out, _ = jsontext.AppendQuote(d.out, name.of(d.text)) // one way to write it: not all readers know "\u0069ss"
	d.out = append(d.out, ':')
	return nil
}

// checkName refuses names that some readers take for another: a registered one
// in another case, one that is cut short at a NUL, and the one that sets the
// prototype of an object where a program in JavaScript copies claims.
func checkName(name, folded []byte, claim bool) error {
	if bytes.IndexByte(name, 0) >= 0 {
		return malformed(RuleText, "", "a name with a NUL in it")
	}
	if string(name) == "__proto__" {
		return malformed(RuleName, "__proto__", "a member __proto__, which some readers do not take for a member")
	}
	if !claim || bytes.Equal(name, folded) {
		return nil
	}
	switch registered := string(folded); registered {
	case "iss", "sub", "aud", "exp", "nbf", "iat", "jti":
		return malformed(RuleCase, registered, "a registered name in another case: "+registered)
	}
	return nil
}

// checkFolded refuses two names of one object that differ in case alone. Names
// that are the same were refused when they were read.
func (d *document) checkFolded(from int) error {
	names := d.folded[from:]
	const few = 12
	if len(names) > few {
		slices.SortFunc(names, func(a, b span) int { return bytes.Compare(a.of(d.text), b.of(d.text)) })
	}
	for i := range names {
		others := names[i+1:]
		if len(names) > few {
			others = others[:min(1, len(others))] // the same stand side by side
		}
		for _, other := range others {
			if bytes.Equal(names[i].of(d.text), other.of(d.text)) {
				return malformed(RuleCase, "", "two names in one object that differ only in case")
			}
		}
	}
	return nil
}

// checkScalar refuses values that some readers read as others.
func (d *document) checkScalar(raw jsontext.Value) error {
	switch {
	case raw[0] == '"' && hasNUL(raw):
		return malformed(RuleText, "", "a string with a NUL in it")
	case (raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9') && !exact(raw):
		return malformed(RuleNumber, "", "a number that not every reader holds as it stands: send it as a string")
	}
	return nil
}

// hasNUL reports whether a string in quotes has a NUL, which JSON writes \u0000.
func hasNUL(raw []byte) bool {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return false
		}
		if bytes.HasPrefix(raw[i:], []byte(`\u0000`)) {
			return true
		}
		raw = raw[i+2:] // past what is escaped; in JSON something is
	}
}

// maxInt is the greatest integer of which a double holds each up to it
// (RFC 7493 section 2.2).
const maxInt = 1<<53 - 1

// exact reports whether readers that keep numbers in doubles and readers that
// keep their digits read the same in raw, a JSON number.
func exact(raw []byte) bool {
	if raw[0] == '-' {
		raw = raw[1:]
	}
	mantissa, whole := raw, true
	if i := bytes.IndexAny(raw, "eE"); i >= 0 {
		mantissa, whole = raw[:i], false
	}
	digits, point, nonZero := 0, false, false
	for _, c := range mantissa {
		switch {
		case c == '.':
			point = true
		case c != '0' || nonZero:
			nonZero = true
			digits++
		}
	}
	const most = 17 // with so many, each double can be written
	if digits > most {
		return false
	}
	if whole && !point {
		n, err := strconv.ParseInt(string(raw), 10, 64)
		return err == nil && n <= maxInt
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	return err == nil && !math.IsInf(f, 0) && (f != 0) == nonZero
}

// find returns the value of a claim as it stands in the document, or nil. A
// claim set has few members: a map would cost more than it saves.
func (d *document) find(name string) jsontext.Value {
	for i := range d.members {
		if m := &d.members[i]; string(m.name.of(d.text)) == name {
			return jsontext.Value(m.value.of(d.out))
		}
	}
	return nil
}
