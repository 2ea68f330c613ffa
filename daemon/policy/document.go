package policy

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is how deep objects and arrays may be nested, whatever the config says. The
// claims are depth 1.
const maxDepth = 64

// A span is a range of bytes in one of a document's buffers.
type span struct{ from, to int }

func (s span) of(buf []byte) []byte { return buf[s.from:s.to] }

// A member is one of the claims: its name in text, its value in out.
type member struct{ name, value span }

// A frame is an object or array that is being read.
type frame struct {
	object bool
	filled bool // it has an element or a name already, so that a comma comes next
	named  bool // a name has been read, and its value has not
	folded int  // the length of document.folded when it began
}

// A document is a JSON object in which all readers read the same; claims that readers
// could understand differently are refused while it is read. It belongs to one goroutine.
// It comes from a pool, so nothing that it returns may be used after release.
type document struct {
	out     []byte   // the object in compact form, without its last brace
	text    []byte   // each name three times: unescaped, folded, and normalized
	members []member // the claims, in order
	normal  []span   // the normalized names of all members at any depth, in text
	depth   int      // of the deepest object or array

	in     bytes.Buffer
	dec    *jsontext.Decoder
	frames []frame // the objects and arrays that are open, innermost last
	folded []span  // the folded names of the objects that are open, innermost last; in text
}

var documents = sync.Pool{New: func() any { return &document{dec: jsontext.NewDecoder(new(bytes.Buffer))} }}

// maxPooled is the size in bytes above which a document does not go back to the pool.
const maxPooled = 64 << 10

// readDocument reads data. The error is a *[Denial] that says what is wrong with it.
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

// release clears d and returns it to the pool. Claims may be secret (those of a sealed
// token are), so they must not stay in memory.
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

// notStrict returns the denial for an error of the JSON library. The library's own text
// is left out, because it contains names of the peer's.
func notStrict(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return malformed(RuleDuplicate, "", "two members of one object have the same name")
	}
	return malformed(RuleJSON, "", "not strict JSON: a syntax error, invalid UTF-8, or half of a surrogate pair")
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
			return malformed(RuleMaxDepth, "", "objects and arrays are nested too deep")
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

// begin is called before a value is appended to out. It appends the comma that the value
// needs, and notes where the value of a claim begins.
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

// end is called after a value has been appended to out. It notes where the value of a
// claim ends.
func (d *document) end() {
	if len(d.frames) == 1 {
		d.members[len(d.members)-1].value.to = len(d.out)
	}
}

// name reads the name of a member.
func (d *document) name(raw jsontext.Value) error {
	f := &d.frames[len(d.frames)-1]
	if f.filled {
		d.out = append(d.out, ',')
	}
	f.filled, f.named = true, true

	from := len(d.text)
	d.text, _ = jsontext.AppendUnquote(d.text, []byte(raw)) // ReadValue has checked that it is a string
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

	// The name is signed in one form, because not all readers unescape "\u0069ss".
	d.out, _ = jsontext.AppendQuote(d.out, name.of(d.text))
	d.out = append(d.out, ':')
	return nil
}

// checkName refuses names that some readers take for other names: a registered name in
// another case, a name with a NUL, at which C programs stop reading, and "__proto__",
// which sets the prototype of an object when a program in JavaScript copies claims.
func checkName(name, folded []byte, claim bool) error {
	if bytes.IndexByte(name, 0) >= 0 {
		return malformed(RuleText, "", "a name contains a NUL")
	}
	if string(name) == "__proto__" {
		return malformed(RuleName, "__proto__", "a member is named __proto__, which some readers do not treat as a member")
	}
	if !claim || bytes.Equal(name, folded) {
		return nil
	}

	switch registered := string(folded); registered {
	case "iss", "sub", "aud", "exp", "nbf", "iat", "jti":
		return malformed(RuleCase, registered, "the name of a registered claim in another case: "+registered)
	}
	return nil
}

// checkFolded refuses two names of one object that differ only in case. The object's
// names are those in d.folded from the given index on. The JSON library has refused names
// that are equal.
func (d *document) checkFolded(from int) error {
	names := d.folded[from:]

	// Comparing each name with each other takes quadratic time, which a peer must not be
	// able to ask for, so many names are sorted first.
	const few = 12
	if len(names) > few {
		slices.SortFunc(names, func(a, b span) int { return bytes.Compare(a.of(d.text), b.of(d.text)) })
	}

	for i := range names {
		others := names[i+1:]
		if len(names) > few {
			others = others[:min(1, len(others))] // in sorted names, equal ones are neighbours
		}
		for _, other := range others {
			if bytes.Equal(names[i].of(d.text), other.of(d.text)) {
				return malformed(RuleCase, "", "two names of one object differ only in case")
			}
		}
	}
	return nil
}

// checkScalar refuses values that readers understand differently.
func (d *document) checkScalar(raw jsontext.Value) error {
	switch {
	case raw[0] == '"' && hasNUL(raw):
		return malformed(RuleText, "", "a string contains a NUL")
	case (raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9') && !exact(raw):
		return malformed(RuleNumber, "", "some readers would round a number: send it as a string")
	}
	return nil
}

// hasNUL reports whether a string in quotes contains a NUL, which JSON writes as \u0000.
func hasNUL(raw []byte) bool {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return false
		}
		if bytes.HasPrefix(raw[i:], []byte(`\u0000`)) {
			return true
		}
		raw = raw[i+2:] // a character follows the backslash in well-formed JSON
	}
}

// maxInt is the greatest integer up to which a double can hold every integer
// (RFC 7493 section 2.2).
const maxInt = 1<<53 - 1

// exact reports whether raw, a JSON number, is the same number to readers that keep
// numbers in doubles and to readers that keep their digits.
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

	// 17 significant digits identify every double; more would be rounded.
	const most = 17
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

// find returns the JSON text of a claim's value, or nil if there is no such claim.
// Claims are few, so a map would cost more than it saves.
func (d *document) find(name string) jsontext.Value {
	for i := range d.members {
		if m := &d.members[i]; string(m.name.of(d.text)) == name {
			return jsontext.Value(m.value.of(d.out))
		}
	}
	return nil
}

// appendFolded appends name without the difference between upper and lower case. It goes
// by way of the upper case, which also folds letters such as the long s of "i\u017fs": a
// relying party that ignores case, such as one that uses encoding/json, reads "iss".
func appendFolded(dst, name []byte) []byte {
	for i := 0; i < len(name); {
		if c := name[i]; c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}

		r, n := utf8.DecodeRune(name[i:])
		dst = utf8.AppendRune(dst, unicode.ToLower(unicode.ToUpper(r)))
		i += n
	}
	return dst
}

// appendNormalized appends a folded name without the separators between its words, so
// that credit_card, "Credit Card" and creditCard are equal.
func appendNormalized(dst, folded []byte) []byte {
	for _, c := range folded {
		switch c {
		case '_', '-', '.', ' ':
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func normalize(name string) string {
	return string(appendNormalized(nil, appendFolded(nil, []byte(name))))
}
