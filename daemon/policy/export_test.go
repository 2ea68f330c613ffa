package policy

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A Reading is what the policy reads in claims, for tests that compare it with what other
// readers read.
type Reading struct {
	Iss, Sub, JTI string
	Aud           []string
	Exp, Nbf, Iat int64
	Values        [][3]string // path, type and text of each value, as testdata/reader.mjs has them
	Names         int         // how many at any depth
}

// Read reads claims as the policy does.
func Read(claims []byte) (*Reading, error) {
	d, err := readDocument(claims)
	if err != nil {
		return nil, err
	}
	defer d.release()

	r := &Reading{Names: len(d.normal)}
	for name, to := range map[string]*string{"iss": &r.Iss, "sub": &r.Sub, "jti": &r.JTI} {
		if *to, _, err = d.textClaim(name); err != nil {
			return nil, err
		}
	}
	for name, to := range map[string]*int64{"exp": &r.Exp, "nbf": &r.Nbf, "iat": &r.Iat} {
		if *to, _, err = d.date(name); err != nil {
			return nil, err
		}
		if any, _, err := d.anyDate(name); err != nil || any != *to {
			return nil, fmt.Errorf("%s is %d to sign and %d to verify, %w", name, *to, any, err)
		}
	}

	if r.Aud, err = d.audience(nil); err != nil {
		return nil, err
	}

	r.Values = append(r.Values, [3]string{"", "object", strconv.Itoa(len(d.members))})
	for _, m := range d.members {
		r.Values = append(r.Values, valuesOf("/"+encodeName(m.name.of(d.text)), m.value.of(d.out))...)
	}
	return r, nil
}

func encodeName(name []byte) string { return base64.RawURLEncoding.EncodeToString(name) }

// valuesOf lists a value and, if [each] splits it, its elements.
func valuesOf(path string, raw jsontext.Value) [][3]string {
	switch byte(raw.Kind()) {
	case '"':
		s, _ := unquote(raw)
		return [][3]string{{path, "string", encodeName([]byte(s))}}
	case '0':
		f, _ := strconv.ParseFloat(string(raw), 64)
		return [][3]string{{path, "number", strconv.FormatUint(math.Float64bits(f), 16)}}
	case 't', 'f':
		return [][3]string{{path, "boolean", string(raw)}}
	case '[':
		out := [][3]string{{path, "array", ""}}

		n := 0
		each(raw, func(element jsontext.Value) bool {
			out = append(out, valuesOf(path+"/"+encodeName([]byte(strconv.Itoa(n))), element)...)
			n++
			return true
		})
		out[0][2] = strconv.Itoa(n)
		return out
	case '{':
		return [][3]string{{path, "object", ""}} // the policy does not look at its members
	default:
		return [][3]string{{path, strings.TrimSpace(string(raw)), ""}}
	}
}
