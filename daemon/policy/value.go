package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A Value is the set of rules on the value of one claim. Each field that is set is a
// rule, and all of them must hold. Type is about the value itself. If the value is an
// array, the other rules are about each of its elements.
type Value struct {
	Type      string   `yaml:"type"`       // string, number, integer, boolean, array or object
	OneOf     []any    `yaml:"one_of"`     // one of these strings, whole numbers and bools
	Pattern   string   `yaml:"pattern"`    // a string that matches this pattern; see [JWT]
	Words     []string `yaml:"words"`      // a string of these words, with one blank between two, such as OAuth's scope
	MaxLength int      `yaml:"max_length"` // a string of at most so many characters
	Min       *int64   `yaml:"min"`        // a number not below this
	Max       *int64   `yaml:"max"`        // a number not above this
}

var valueTypes = []string{"string", "number", "integer", "boolean", "array", "object"}

// ownRules are the claims that have rules of their own.
var ownRules = []string{"iss", "sub", "aud", "exp", "nbf", "iat"}

// A valueRule is a [Value] that is ready for use.
type valueRule struct {
	claim  string
	typ    string  // empty for any
	checks []check // of each element, in this order
}

// A check returns the name of the rule that an element breaks, or "".
type check func(element) string

// An element is one element of an array, or a value that is no array.
type element struct {
	raw      jsontext.Value
	text     string // if isString
	isString bool
}

func compileValue(claim string, v Value) (*valueRule, error) {
	refuse := func(rule, text string) error { return ruleError(errors.New(text), "values", claim, rule) }
	switch {
	case claim == "":
		return nil, refuse("", "a claim without a name")
	case slices.Contains(ownRules, claim):
		return nil, refuse("", "this claim has rules of its own")
	case reflect.ValueOf(v).IsZero():
		return nil, refuse("", "no rule is set")
	}

	if v.Type != "" && !slices.Contains(valueTypes, v.Type) {
		return nil, refuse("type", fmt.Sprintf("must be one of %v", valueTypes))
	}
	r := &valueRule{claim: claim, typ: v.Type}

	if v.OneOf != nil {
		if len(v.OneOf) == 0 {
			return nil, refuse("one_of", "must not be empty")
		}
		var literals []string
		for i, one := range v.OneOf {
			text, ok := literal(one)
			if !ok {
				return nil, ruleError(errors.New("must be a string, a whole number up to 2^53-1, true or false"), "values", claim, "one_of", index(i))
			}
			literals = append(literals, text)
		}
		r.checks = append(r.checks, func(e element) string { return brokenIf(!e.isOneOf(literals), "one_of") })
	}

	if v.Pattern != "" {
		p, err := parsePattern(v.Pattern)
		if err != nil {
			return nil, refuse("pattern", err.Error())
		}
		r.checks = append(r.checks, func(e element) string { return brokenIf(!e.isString || !p.matches(e.text), "pattern") })
	}

	if v.Words != nil {
		notWord := func(s string) bool { return s == "" || strings.Contains(s, " ") }
		if len(v.Words) == 0 || slices.ContainsFunc(v.Words, notWord) {
			return nil, refuse("words", "must not be empty, and no word may be empty or contain a blank")
		}
		r.checks = append(r.checks, func(e element) string {
			return brokenIf(!e.isString || !isSubset(strings.Split(e.text, " "), v.Words), "words")
		})
	}

	if v.MaxLength < 0 {
		return nil, refuse("max_length", "must not be below zero")
	}
	if v.MaxLength > 0 {
		r.checks = append(r.checks, func(e element) string {
			return brokenIf(!e.isString || utf8.RuneCountInString(e.text) > v.MaxLength, "max_length")
		})
	}

	if v.Min != nil && v.Max != nil && *v.Min > *v.Max {
		return nil, refuse("min", "must not be above max")
	}
	if v.Min != nil || v.Max != nil {
		r.checks = append(r.checks, func(e element) string { return e.brokenRange(v.Min, v.Max) })
	}
	return r, nil
}

func brokenIf(broken bool, rule string) string {
	if broken {
		return rule
	}
	return ""
}

// literal returns a value of OneOf as JSON has it, except that strings are not escaped.
func literal(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return `"` + v + `"`, utf8.ValidString(v)
	case int64:
		return strconv.FormatInt(v, 10), v >= -maxInt && v <= maxInt
	case uint64: // the type that a YAML reader gives to a number above zero
		return strconv.FormatUint(v, 10), v <= maxInt
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// broken returns the rule that raw breaks, or "".
func (r *valueRule) broken(raw jsontext.Value) (rule string) {
	if r.typ != "" && !isType(r.typ, raw) {
		return "type"
	}
	if len(r.checks) == 0 {
		return ""
	}

	each(raw, func(raw jsontext.Value) bool {
		e := element{raw: raw}
		e.text, e.isString = unquote(raw)
		for _, check := range r.checks {
			if rule = check(e); rule != "" {
				return false
			}
		}
		return true
	})
	return rule
}

func (e element) isOneOf(literals []string) bool {
	return slices.ContainsFunc(literals, func(one string) bool {
		if e.isString {
			return one[0] == '"' && one[1:len(one)-1] == e.text
		}
		return one == string(e.raw)
	})
}

// brokenRange returns the rule that a number outside of a range breaks, or "". A bound
// that is nil is not checked.
func (e element) brokenRange(lowest, highest *int64) string {
	if e.raw.Kind() != '0' {
		return "type"
	}

	n, err := strconv.ParseFloat(string(e.raw), 64)
	switch {
	case lowest != nil && (err != nil || n < float64(*lowest)):
		return "min"
	case highest != nil && (err != nil || n > float64(*highest)):
		return "max"
	}
	return ""
}

// isType reports whether a value has the named JSON type. An integer is a number in
// plain digits.
func isType(name string, raw jsontext.Value) bool {
	switch name {
	case "string":
		return raw.Kind() == '"'
	case "number":
		return raw.Kind() == '0'
	case "integer":
		return raw.Kind() == '0' && !bytes.ContainsAny(raw, ".eE")
	case "boolean":
		return raw.Kind() == 't' || raw.Kind() == 'f'
	case "array":
		return raw.Kind() == '['
	default:
		return raw.Kind() == '{'
	}
}

// narrowedBy returns v with each rule that n sets in the place of its own. It is an
// error if one of them would allow what v does not.
func (v Value) narrowedBy(claim string, n Value) (Value, error) {
	wider := func(rule string) error { return ruleError(errWider, "values", claim, rule) }

	if n.Type != "" {
		if v.Type != "" && n.Type != v.Type && (v.Type != "number" || n.Type != "integer") {
			return v, wider("type")
		}
		v.Type = n.Type
	}

	if n.OneOf != nil {
		if v.OneOf != nil && !isSubset(n.OneOf, v.OneOf) {
			return v, wider("one_of")
		}
		v.OneOf = n.OneOf
	}

	if n.Pattern != "" {
		if v.Pattern != "" {
			wide, wideErr := parsePattern(v.Pattern)
			narrow, narrowErr := parsePattern(n.Pattern)
			if err := cmp.Or(wideErr, narrowErr); err != nil {
				return v, ruleError(err, "values", claim, "pattern")
			}
			if !wide.covers(narrow) {
				return v, wider("pattern")
			}
		}
		v.Pattern = n.Pattern
	}

	if n.Words != nil {
		if v.Words != nil && !isSubset(n.Words, v.Words) {
			return v, wider("words")
		}
		v.Words = n.Words
	}

	if n.MaxLength != 0 {
		if v.MaxLength != 0 && n.MaxLength > v.MaxLength {
			return v, wider("max_length")
		}
		v.MaxLength = n.MaxLength
	}

	if n.Min != nil {
		if v.Min != nil && *n.Min < *v.Min {
			return v, wider("min")
		}
		v.Min = n.Min
	}

	if n.Max != nil {
		if v.Max != nil && *n.Max > *v.Max {
			return v, wider("max")
		}
		v.Max = n.Max
	}
	return v, nil
}

func isSubset[T comparable](part, whole []T) bool {
	return !slices.ContainsFunc(part, func(one T) bool { return !slices.Contains(whole, one) })
}
