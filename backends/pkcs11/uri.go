package pkcs11

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"signetd/signer"
)

// A URI names one private or secret key in a token (RFC 7512). Empty members
// match anything; Object or ID is set.
type URI struct {
	Object string // CKA_LABEL
	ID     string // CKA_ID, any bytes
	Token  string // label of the token
	Serial string // serial number of the token
	// Type is [TypePrivate] or [TypeSecret]. If it is empty, a private key is looked for
	// first, and then a secret one.
	Type string
}

// The types of object that a URI can name (RFC 7512 section 2.3).
const (
	TypePrivate = "private"    // of a key pair
	TypeSecret  = "secret-key" // a symmetric key
)

// errPIN is the same for every URI with a PIN, so that it cannot show any of it.
var errPIN = errors.New("it carries a PIN or says where one is: use pin_file in the backend's configuration")

// ParseURI parses the part of RFC 7512 that names a private or secret key: the path
// attributes object, id, token, serial, and type. Everything else is refused. Errors wrap
// signer.ErrInvalid and never show a value.
func ParseURI(s string) (URI, error) {
	u, err := parseURI(s)
	if err != nil {
		return URI{}, fmt.Errorf("%w: pkcs11 URI: %w", signer.ErrInvalid, err)
	}
	return u, nil
}

func parseURI(s string) (URI, error) {
	if low := strings.ToLower(s); strings.Contains(low, "pin-value") || strings.Contains(low, "pin-source") {
		return URI{}, errPIN
	}
	path, ok := strings.CutPrefix(s, "pkcs11:")
	if !ok {
		return URI{}, errors.New("its scheme is not pkcs11")
	}
	path, query, hasQuery := strings.Cut(path, "?")
	if hasQuery {
		// The query attributes of RFC 7512 section 2.4 name module and PIN, which the
		// configuration does here.
		if name, _, _ := strings.Cut(query, "="); name == "module-name" || name == "module-path" {
			return URI{}, fmt.Errorf("attribute %s is not supported: set module in the backend's configuration", name)
		}
		return URI{}, errors.New("it has a query part")
	}

	var u URI
	seen := make(map[string]bool)
	for attr := range strings.SplitSeq(path, ";") {
		name, value, ok := strings.Cut(attr, "=")
		if !ok {
			return URI{}, errors.New("a path attribute has no value")
		}
		if seen[name] {
			return URI{}, fmt.Errorf("attribute %s appears twice", printable(name))
		}
		seen[name] = true

		if err := u.set(name, value); err != nil {
			return URI{}, err
		}
	}

	if u.Object == "" && u.ID == "" {
		return URI{}, errors.New("object or id must be given")
	}
	return u, nil
}

// set takes one path attribute (RFC 7512 section 2.3).
func (u *URI) set(name, value string) error {
	var member *string
	switch name {
	case "object":
		member = &u.Object
	case "id":
		member = &u.ID
	case "token":
		member = &u.Token
	case "serial":
		member = &u.Serial
	case "type":
		if value != TypePrivate && value != TypeSecret {
			return errors.New("type is neither private nor secret-key")
		}
		u.Type = value
		return nil
	case "manufacturer", "model", "slot-description", "slot-id", "slot-manufacturer",
		"library-description", "library-manufacturer", "library-version":
		return fmt.Errorf("attribute %s is not supported: name the token by token or serial", name)
	default:
		return fmt.Errorf("unknown attribute %s", printable(name))
	}

	decoded, err := unescape(value)
	if err != nil {
		return fmt.Errorf("attribute %s: %w", name, err)
	}
	if decoded == "" {
		return fmt.Errorf("attribute %s is empty", name)
	}
	if name != "id" && !utf8.ValidString(decoded) {
		return fmt.Errorf("attribute %s is not UTF-8", name)
	}
	*member = decoded
	return nil
}

// printable returns the name of an attribute for an error text, unless it has bytes that
// no attribute's name has.
func printable(name string) string {
	ok := name != "" && len(name) <= 32
	for _, c := range []byte(name) {
		ok = ok && (c == '-' || 'a' <= c && c <= 'z')
	}
	if !ok {
		return "(with a malformed name)"
	}
	return name
}

// literal holds the characters, besides letters and digits, that need no percent-encoding
// in a path attribute (RFC 7512 section 2.3, pk11-pchar).
const literal = "-._~:[]@!$'()*+,=&"

func isLiteral(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(literal, c) >= 0
}

func unescape(s string) (string, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case isLiteral(s[i]):
			out = append(out, s[i])
		case s[i] == '%' && i+2 < len(s):
			b, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return "", errors.New("a % that two hexadecimal digits do not follow")
			}
			out = append(out, b...)
			i += 2

		default:
			return "", errors.New("a character that must be percent-encoded")
		}
	}
	return string(out), nil
}

// String returns the URI. ParseURI of it gives u again.
func (u URI) String() string {
	var b strings.Builder
	b.WriteString("pkcs11:")

	separator := ""
	for _, attr := range []struct{ name, value string }{
		{"token", u.Token}, {"serial", u.Serial}, {"object", u.Object}, {"id", u.ID}, {"type", u.Type},
	} {
		if attr.value == "" {
			continue
		}
		b.WriteString(separator)
		b.WriteString(attr.name)
		b.WriteByte('=')
		escape(&b, attr.value, attr.name == "id")
		separator = ";"
	}

	return b.String()
}

// escape percent-encodes s: every byte of it if all is set, as RFC 7512 section 2.3
// recommends for an id.
func escape(b *strings.Builder, s string, all bool) {
	for _, c := range []byte(s) {
		if !all && isLiteral(c) {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(b, "%%%02x", c)
	}
}
