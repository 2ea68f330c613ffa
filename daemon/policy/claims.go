package policy

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"signetd/signer"
)

// Skew is how far the clocks of an issuer, this host and a recipient may differ.
const Skew = time.Minute

// JWT holds the claim rules of a key (RFC 7519, RFC 8725). All fields are set.
type JWT struct {
	Issuer    string        // the one value of "iss"
	Audiences []string      // the values that "aud" may have
	MaxTTL    time.Duration // the longest time from "iat" to "exp", and what a token has that asks for none
	Typ       string        // the "typ" of the header
}

// Validate reports what is missing in the rules.
func (r *JWT) Validate() error {
	switch {
	case r.Issuer == "":
		return fmt.Errorf("%w: issuer: none", signer.ErrInvalid)
	case len(r.Audiences) == 0 || slices.Contains(r.Audiences, ""):
		return fmt.Errorf("%w: audiences: none, or an empty one", signer.ErrInvalid)
	case r.MaxTTL < time.Second || r.MaxTTL%time.Second != 0:
		return fmt.Errorf("%w: max_ttl: %s is not a whole number of seconds above zero", signer.ErrInvalid, r.MaxTTL)
	case r.Typ == "":
		return fmt.Errorf("%w: typ: none", signer.ErrInvalid)
	}
	return nil
}

// Claims are claims that keep the rules.
type Claims struct {
	Payload []byte // the JSON to sign: what was asked for, with what was missing added
	JTI     string
	Exp     time.Time
}

// Apply returns the claims to sign for a request: the members of claims, a JSON
// object, as they stand, and iss, iat, exp and jti where they are absent. A ttl
// of zero asks for the rules' maximum. Claims that break a rule are ErrDenied,
// and what is no set of claims is ErrInvalid; both name the rule and no value.
func (r *JWT) Apply(claims []byte, ttl time.Duration, now time.Time) (*Claims, error) {
	c, err := parseClaims(claims)
	if err != nil {
		return nil, err
	}
	if iss, ok, err := c.text("iss"); err != nil {
		return nil, err
	} else if ok && iss != r.Issuer {
		return nil, denied("iss is not the key's issuer")
	} else if !ok {
		c.add("iss", r.Issuer)
	}
	if err := r.checkAudience(c); err != nil {
		return nil, err
	}
	exp, err := r.times(c, ttl, now)
	if err != nil {
		return nil, err
	}
	jti, ok, err := c.text("jti")
	if err != nil {
		return nil, err
	}
	if !ok {
		jti = newID()
		c.add("jti", jti)
	}
	return &Claims{Payload: c.encode(), JTI: jti, Exp: time.Unix(exp, 0)}, nil
}

func (r *JWT) checkAudience(c *claimSet) error {
	aud, err := c.audience()
	if err != nil {
		return err
	}
	if len(aud) == 0 {
		return denied("aud is missing: a token says whom it is for")
	}
	for _, a := range aud {
		if !slices.Contains(r.Audiences, a) {
			return denied("aud holds a value that is not among the key's audiences")
		}
	}
	return nil
}

// times checks iat, nbf and exp, adds what is missing and returns exp.
func (r *JWT) times(c *claimSet, ttl time.Duration, now time.Time) (int64, error) {
	iat, ok, err := c.date("iat")
	if err != nil {
		return 0, err
	}
	if ok && time.Unix(iat, 0).Sub(now).Abs() > Skew {
		return 0, denied("iat is not now")
	}
	if !ok {
		iat = now.Unix()
		c.add("iat", iat)
	}
	if ttl < 0 || ttl%time.Second != 0 {
		return 0, fmt.Errorf("%w: ttl: not a whole number of seconds above zero", signer.ErrInvalid)
	}
	if ttl > r.MaxTTL {
		return 0, denied("ttl is above the key's max_ttl")
	}
	exp, ok, err := c.date("exp")
	switch {
	case err != nil:
		return 0, err
	case ok && ttl != 0:
		return 0, fmt.Errorf("%w: ttl and exp: give one of them", signer.ErrInvalid)
	case ok && exp <= now.Unix():
		return 0, denied("exp has passed")
	case ok && exp-iat > int64(r.MaxTTL/time.Second):
		return 0, denied("exp is later than the key's max_ttl allows")
	case !ok:
		if ttl == 0 {
			ttl = r.MaxTTL
		}
		exp = iat + int64(ttl/time.Second)
		c.add("exp", exp)
	}
	if nbf, ok, err := c.date("nbf"); err != nil {
		return 0, err
	} else if ok && nbf >= exp {
		return 0, denied("nbf is not before exp")
	}
	return exp, nil
}

// Verify checks the claims of a token of the key, whose signature was verified
// already: typ, issuer, audience, exp, nbf and iat. issuer and audience are what
// the verifier wants beside the rules, if not empty. Errors are ErrInvalid and
// name the claim. The payload of the result is the one that was given.
func (r *JWT) Verify(payload []byte, typ, issuer, audience string, now time.Time) (*Claims, error) {
	if !strings.EqualFold(strings.TrimPrefix(typ, "application/"), strings.TrimPrefix(r.Typ, "application/")) {
		return nil, refused("typ is not the key's")
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, err
	}
	if iss, ok, err := c.text("iss"); err != nil || !ok || iss != r.Issuer || (issuer != "" && iss != issuer) {
		return nil, refused("iss is not the issuer that is wanted")
	}
	aud, err := c.audience()
	if err != nil || !slices.ContainsFunc(aud, func(a string) bool { return slices.Contains(r.Audiences, a) }) ||
		(audience != "" && !slices.Contains(aud, audience)) {
		return nil, refused("aud is not the audience that is wanted")
	}
	exp, ok, err := c.date("exp")
	if err != nil || !ok || !now.Before(time.Unix(exp, 0).Add(Skew)) {
		return nil, refused("expired, or without exp")
	}
	for _, name := range []string{"nbf", "iat"} {
		if t, ok, err := c.date(name); err != nil || (ok && now.Before(time.Unix(t, 0).Add(-Skew))) {
			return nil, refused("not valid yet: " + name + " is in the future")
		}
	}
	jti, _, err := c.text("jti")
	if err != nil {
		return nil, refused("jti is not a string")
	}
	return &Claims{Payload: payload, JTI: jti, Exp: time.Unix(exp, 0)}, nil
}

func denied(rule string) error  { return fmt.Errorf("%w: claims: %s", signer.ErrDenied, rule) }
func refused(rule string) error { return fmt.Errorf("%w: token: %s", signer.ErrInvalid, rule) }
func malformed(what string) error {
	return fmt.Errorf("%w: claims: %s", signer.ErrInvalid, what)
}

// newID returns a "jti" with 128 random bits.
func newID() string {
	var id [16]byte
	rand.Read(id[:])
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// A claimSet is a JSON object with its members in order, as they stood.
type claimSet struct {
	names  []string
	values map[string]jsontext.Value
}

// parseClaims reads a JSON object strictly: no member twice at any depth, valid
// UTF-8, nothing behind it. Two members that differ only in case are refused: a
// relying party that ignores case would read another token than we did.
func parseClaims(data []byte) (*claimSet, error) {
	c := &claimSet{values: map[string]jsontext.Value{}}
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return nil, malformed("not a JSON object")
	}
	folded := map[string]bool{"iss": false, "sub": false, "aud": false, "exp": false, "nbf": false, "iat": false, "jti": false}
	for dec.PeekKind() != '}' {
		tok, err := dec.ReadToken()
		if err != nil {
			return nil, malformed("not strict JSON (a member twice, invalid UTF-8 or bad syntax)")
		}
		name := tok.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, malformed("not strict JSON (a member twice, invalid UTF-8 or bad syntax)")
		}
		plain := fold(name)
		if present, known := folded[plain]; present || (known && plain != name) {
			return nil, malformed("two names, or a registered name, that differ only in case")
		}
		folded[plain] = true
		value = value.Clone()
		if err := value.Compact(); err != nil {
			return nil, malformed("not strict JSON")
		}
		c.names = append(c.names, name)
		c.values[name] = value
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, malformed("not a JSON object")
	}
	if rest := bytes.TrimLeft(data[dec.InputOffset():], " \t\r\n"); len(rest) != 0 {
		return nil, malformed("something follows the JSON object")
	}
	return c, nil
}

// fold is name without the difference between upper and lower case. By way of the
// upper case it also folds letters such as the long s of "i\u017fs", which a
// relying party that ignores case, one with encoding/json among them, takes for
// the s of "iss".
func fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// add appends a member whose value is a string or an int64.
func (c *claimSet) add(name string, value any) {
	switch v := value.(type) {
	case string:
		c.values[name], _ = jsontext.AppendQuote(nil, v) // v is UTF-8: config and base64
	case int64:
		c.values[name] = strconv.AppendInt(nil, v, 10)
	}
	c.names = append(c.names, name)
}

func (c *claimSet) encode() []byte {
	out := []byte{'{'}
	for i, name := range c.names {
		if i > 0 {
			out = append(out, ',')
		}
		out, _ = jsontext.AppendQuote(out, name) // read as valid UTF-8
		out = append(append(out, ':'), c.values[name]...)
	}
	return append(out, '}')
}

func (c *claimSet) text(name string) (s string, ok bool, err error) {
	v, ok := c.values[name]
	if !ok {
		return "", false, nil
	}
	if v.Kind() != '"' || json.Unmarshal(v, &s) != nil || s == "" {
		return "", false, malformed(name + " is not a string, or an empty one")
	}
	return s, true, nil
}

// date reads a NumericDate (RFC 7519 section 2) of whole seconds.
func (c *claimSet) date(name string) (t int64, ok bool, err error) {
	v, ok := c.values[name]
	if !ok {
		return 0, false, nil
	}
	t, perr := strconv.ParseInt(string(v), 10, 64)
	if perr != nil || t < 0 || t > 1<<53 {
		return 0, false, malformed(name + " is not a whole number of seconds since 1970")
	}
	return t, true, nil
}

// audience reads "aud": a string or an array of them (RFC 7519 section 4.1.3).
func (c *claimSet) audience() ([]string, error) {
	v, ok := c.values["aud"]
	if !ok {
		return nil, nil
	}
	if v.Kind() == '"' {
		s, _, err := c.text("aud")
		return []string{s}, err
	}
	var list []string
	if v.Kind() != '[' || json.Unmarshal(v, &list) != nil {
		return nil, malformed("aud is neither a string nor an array of strings")
	}
	return list, nil
}
