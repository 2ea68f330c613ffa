package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A Value is what the value of one claim must keep. Each field that is set is a
// rule of its own. Type is on the claim as it stands. The others are on each
// element of an array, and on any other value itself.
type Value struct {
	Type      string   `yaml:"type"`       // string, number, integer, boolean, array or object
	OneOf     []any    `yaml:"one_of"`     // strings, whole numbers and bools
	Pattern   string   `yaml:"pattern"`    // a string that is this, or begins as this does if it ends in a star; see [JWT]
	Words     []string `yaml:"words"`      // a string of these, one blank between two: OAuth's scope
	MaxLength int      `yaml:"max_length"` // a string of so many characters at most
	Min       *int64   `yaml:"min"`        // a number in this range, the ends included
	Max       *int64   `yaml:"max"`
}

var valueTypes = []string{"string", "number", "integer", "boolean", "array", "object"}

// ownRules are the claims that have rules of their own.
var ownRules = []string{"iss", "sub", "aud", "exp", "nbf", "iat"}

// A valueRule is a Value that is ready for use.
type valueRule struct {
	Value

	claim   string
	oneOf   []string // strings as they are in quotes, others in digits or letters
	pattern *pattern
}

func compileValue(claim string, v Value) (*valueRule, error) {
	at := func(rule, text string) error { return ruleError(errors.New(text), "values", claim, rule) }
	r := &valueRule{Value: v, claim: claim}
	switch {
	case claim == "":
		return nil, at("", "a claim without a name")
	case slices.Contains(ownRules, claim):
		return nil, at("", "this claim has rules of its own")
	case v.Type == "" && v.OneOf == nil && v.Pattern == "" && v.Words == nil && v.MaxLength == 0 && v.Min == nil && v.Max == nil:
		return nil, at("", "no rule")
	case v.Type != "" && !slices.Contains(valueTypes, v.Type):
		return nil, at("type", fmt.Sprintf("one of %v", valueTypes))
	case v.OneOf != nil && len(v.OneOf) == 0:
		return nil, at("one_of", "none")
	case v.Words != nil && (len(v.Words) == 0 || slices.ContainsFunc(v.Words, notWord)):
		return nil, at("words", "none, or one that is empty or has a blank in it")
	case v.MaxLength < 0:
		return nil, at("max_length", "below zero")
	case v.Min != nil && v.Max != nil && *v.Min > *v.Max:
		return nil, at("min", "above max")
	}
	for i, one := range v.OneOf {
		text, ok := literal(one)
		if !ok {
			return nil, ruleError(errors.New("must be a string, a whole number up to 2^53-1, true or false"), "values", claim, "one_of", index(i))
		}
		r.oneOf = append(r.oneOf, text)
	}
	if v.Pattern != "" {
		p, err := parsePattern(v.Pattern)
		if err != nil {
			return nil, at("pattern", err.Error())
		}
		r.pattern = &p
	}
	return r, nil
}

func notWord(s string) bool { return s == "" || strings.Contains(s, " ") }

// literal is a value of OneOf as a claim has it, strings in quotes.
func literal(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return `"` + v + `"`, utf8.ValidString(v)
	case int64:
		return strconv.FormatInt(v, 10), v >= -maxInt && v <= maxInt
	case uint64: // what a YAML reader makes of a number above zero
		return strconv.FormatUint(v, 10), v <= maxInt
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// broken returns the rule that raw breaks, or "".
func (r *valueRule) broken(raw jsontext.Value) (rule string) {
	if r.Type != "" && !isType(r.Type, raw) {
		return "type"
	}
	each(raw, func(element jsontext.Value) bool {
		rule = r.brokenByOne(element)
		return rule == ""
	})
	return rule
}

func (r *valueRule) brokenByOne(raw jsontext.Value) string {
	s, isText := "", false
	if r.oneOf != nil || r.pattern != nil || r.Words != nil || r.MaxLength > 0 {
		s, isText = unquote(raw)
	}
	switch {
	case r.oneOf != nil && !r.isOneOf(raw, s, isText):
		return "one_of"
	case r.pattern != nil && (!isText || !r.pattern.matches(s)):
		return "pattern"
	case r.Words != nil && (!isText || !r.areWords(s)):
		return "words"
	case r.MaxLength > 0 && (!isText || utf8.RuneCountInString(s) > r.MaxLength):
		return "max_length"
	case r.Min == nil && r.Max == nil:
		return ""
	case raw.Kind() != '0':
		return "type" // of a number, which a range is of
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	switch {
	case r.Min != nil && (err != nil || n < float64(*r.Min)):
		return "min"
	case r.Max != nil && (err != nil || n > float64(*r.Max)):
		return "max"
	}
	return ""
}

func (r *valueRule) isOneOf(raw jsontext.Value, s string, isText bool) bool {
	return slices.ContainsFunc(r.oneOf, func(one string) bool {
		if isText {
			return one[0] == '"' && one[1:len(one)-1] == s
		}
		return one == string(raw)
	})
}

func (r *valueRule) areWords(s string) bool {
	for word := range strings.SplitSeq(s, " ") {
		if !slices.Contains(r.Words, word) {
			return false
		}
	}
	return true
}

// isType reports whether a value is of the named JSON type. An integer is a number
// in plain digits.
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

// narrowedBy returns the rules of v with those of n instead, or an error if one of
// n would allow what v does not.
func (v Value) narrowedBy(claim string, n Value) (Value, error) {
	widens := func(rule string) error { return ruleError(errWider, "values", claim, rule) }
	for _, one := range n.OneOf {
		if v.OneOf != nil && !slices.Contains(v.OneOf, one) {
			return v, widens("one_of")
		}
	}
	for _, word := range n.Words {
		if v.Words != nil && !slices.Contains(v.Words, word) {
			return v, widens("words")
		}
	}
	switch {
	case n.Type != "" && v.Type != "" && n.Type != v.Type && (v.Type != "number" || n.Type != "integer"):
		return v, widens("type")
	case n.MaxLength != 0 && v.MaxLength != 0 && n.MaxLength > v.MaxLength:
		return v, widens("max_length")
	case n.Min != nil && v.Min != nil && *n.Min < *v.Min:
		return v, widens("min")
	case n.Max != nil && v.Max != nil && *n.Max > *v.Max:
		return v, widens("max")
	case n.Pattern != "" && v.Pattern != "":
		wide, werr := parsePattern(v.Pattern)
		narrow, nerr := parsePattern(n.Pattern)
		if werr == nil && nerr == nil && !wide.covers(narrow) { // what is no pattern is found when it is compiled
			return v, widens("pattern")
		}
	}
	return v.with(n), nil
}

// with is v with the rules of n in their place.
func (v Value) with(n Value) Value {
	if n.Type != "" {
		v.Type = n.Type
	}
	if n.OneOf != nil {
		v.OneOf = n.OneOf
	}
	if n.Pattern != "" {
		v.Pattern = n.Pattern
	}
	if n.Words != nil {
		v.Words = n.Words
	}
	if n.MaxLength != 0 {
		v.MaxLength = n.MaxLength
	}
	if n.Min != nil {
		v.Min = n.Min
	}
	if n.Max != nil {
		v.Max = n.Max
	}
	return v
}
