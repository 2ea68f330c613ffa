package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"signetd/daemon/policy"
	"signetd/signer"
)

// A File is a config file that was read. It is never changed, and is safe for concurrent
// use.
type File struct {
	Config

	Path string // empty if the config is not from a file, and so cannot be read again
	name string // for errors
	tree *ast.File
}

// maxSize is far more than any config needs.
const maxSize = 4 << 20

// Read reads the config file at path. B is the type of a backend's config; the section
// "backends" is returned as a list of these. Errors begin with the file and, where one
// is known, the line and column, and never hold a value of the file: it may be a PIN.
func Read[B any](path string) (*File, []B, error) {
	r, err := os.Open(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()

	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxSize {
		return nil, nil, fmt.Errorf("%s: is longer than %d bytes", path, maxSize)
	}

	f, backends, err := Parse[B](path, data)
	if err != nil {
		return nil, nil, err
	}
	f.Path = path
	return f, backends, nil
}

// Parse is [Read] for a text. The errors call it name.
func Parse[B any](name string, data []byte) (*File, []B, error) {
	f := &File{name: name}
	var err error
	if f.tree, err = parser.ParseBytes(data, 0); err != nil {
		return nil, nil, f.yamlError(err)
	}
	if len(f.tree.Docs) != 1 || f.tree.Docs[0].Body == nil {
		return nil, nil, fmt.Errorf("%s: has %d YAML documents instead of one", name, len(f.tree.Docs))
	}
	body := f.tree.Docs[0].Body

	var odd oddities
	ast.Walk(&odd, body)
	if odd.node != nil {
		return nil, nil, f.errorAt(odd.node, odd.problem, nil)
	}

	var whole struct {
		Config   `yaml:",inline"`
		Backends []B `yaml:"backends"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(nil), yaml.Strict(), yaml.CustomUnmarshaler(readDuration))
	if err := decoder.DecodeFromNode(body, &whole); err != nil {
		return nil, nil, f.yamlError(err)
	}
	f.Config = whole.Config
	return f, whole.Backends, nil
}

// oddities finds the first node that means something else than it seems to say.
type oddities struct {
	node    ast.Node
	problem string
}

// Visit implements [ast.Visitor].
func (o *oddities) Visit(n ast.Node) ast.Visitor {
	if o.node != nil {
		return nil
	}

	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		o.node, o.problem = n, "anchors, aliases, merge keys and tags are not allowed in a config file"

	case *ast.NullNode:
		// "jwt:" with nothing after it would leave a key without claim rules.
		o.node, o.problem = n, "has no value: give it one, or leave the member out"

	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		// 0660 and 0o660 are 432, and a socket of mode 0432 is open to everybody.
		text := n.GetToken().Value
		if i, err := strconv.Atoi(text); err != nil || strconv.Itoa(i) != text {
			o.node, o.problem = n, "is not a plain whole number: write it in quotes"
		}
	}
	return o
}

// notADuration stands for a text that is not a duration above zero. The YAML library
// knows no place for the errors of a custom type, so such a text is not refused here:
// every limit on a duration refuses notADuration, at the place of the member.
const notADuration time.Duration = -1

func readDuration(d *time.Duration, text []byte) error {
	var s string
	*d = notADuration
	if yaml.Unmarshal(text, &s) != nil {
		return nil //nolint:nilerr // see notADuration
	}
	if parsed, err := time.ParseDuration(s); err == nil && parsed > 0 {
		*d = parsed
	}
	return nil
}

// A Time is a time of the file, in RFC 3339.
type Time struct{ time.Time }

// UnmarshalYAML implements [yaml.NodeUnmarshaler].
func (t *Time) UnmarshalYAML(node ast.Node) (err error) {
	if t.Time, err = time.Parse(time.RFC3339, node.GetToken().Value); err != nil {
		return &valueError{node, "must be a time such as 2026-11-01T00:00:00Z"}
	}
	return nil
}

// A valueError says what is wrong with the value at a node.
type valueError struct {
	node    ast.Node
	problem string
}

// Error implements error.
func (e *valueError) Error() string { return e.problem }

// yamlError puts the place in front of an error of the YAML library. The library's own
// rendering would show the lines around it, and one of them may hold a PIN.
func (f *File) yamlError(err error) error {
	var value *valueError
	if errors.As(err, &value) {
		return f.errorAt(value.node, member(value.node.GetPath())+": "+value.problem, signer.ErrInvalid)
	}

	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil {
		return fmt.Errorf("%s: is not the YAML of a config file", f.name)
	}

	text := ye.GetMessage()
	var mismatch *yaml.TypeError
	if errors.As(err, &mismatch) && kindNames[mismatch.DstType.Kind()] != "" {
		text = "must be " + kindNames[mismatch.DstType.Kind()]
	}
	at := ye.GetToken().Position
	return fmt.Errorf("%s:%d:%d: %s", f.name, at.Line, at.Column, text)
}

// kindNames says in an operator's words what a value of a Go kind is in a config file.
var kindNames = map[reflect.Kind]string{
	reflect.Bool: "true or false", reflect.String: "a text", reflect.Int: "a whole number", reflect.Int64: "a whole number",
	reflect.Slice: "a list", reflect.Struct: "a section with members", reflect.Map: "a section with members",
}

// At returns err with its place in front: the file, line and column of the member at path,
// such as "$.keys[0].jwt", or of the nearest member above it that the file has, and the
// path itself.
func (f *File) At(path string, err error) error {
	// The text of the sentinel is about requests: it would only confuse here.
	text := member(path) + ": " + strings.TrimPrefix(err.Error(), signer.ErrInvalid.Error()+": ")
	if node := f.nearest(path); node != nil {
		return f.errorAt(node, text, err)
	}
	return &placedError{f.name + ": " + text, err}
}

// Invalid is [File.At] with an error that wraps [signer.ErrInvalid].
func (f *File) Invalid(path, format string, args ...any) error {
	return f.At(path, fmt.Errorf("%w: %w", signer.ErrInvalid, fmt.Errorf(format, args...)))
}

// Twice is [File.Invalid] for something that appears at first and again at path.
func (f *File) Twice(path, first string) error {
	a, b := f.line(first), f.line(path)
	if a == b {
		return f.Invalid(path, "appears twice in line %d", a)
	}
	return f.Invalid(path, "appears twice: lines %d and %d", a, b)
}

// atRule is [File.At] for a rule of the jwt block, or of the issuer, at path.
func (f *File) atRule(path string, e *policy.RuleError) error {
	for _, p := range e.Path {
		switch {
		case strings.HasPrefix(p, "["):
			path += p
		case plainMember.MatchString(p):
			path += "." + p
		default: // the name of a claim may be a URL
			path += ".'" + p + "'"
		}
	}
	return f.At(path, e.Err)
}

var plainMember = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// member returns path as a person would write it.
func member(path string) string { return strings.TrimPrefix(path, "$.") }

// nearest returns the node at path, or the nearest one above it that the file has, or
// nil.
func (f *File) nearest(path string) ast.Node {
	for p := path; p != "$" && p != ""; p = parent(p) {
		yp, err := yaml.PathString(p)
		if err != nil { // parent has cut a quoted name in two
			continue
		}
		if node, err := yp.FilterFile(f.tree); err == nil && node != nil {
			return node
		}
	}
	return nil
}

func parent(path string) string { return path[:max(strings.LastIndexAny(path, ".["), 0)] }

func (f *File) line(path string) int {
	if node := f.nearest(path); node != nil {
		line, _ := position(node)
		return line
	}
	return 0
}

func (f *File) errorAt(node ast.Node, text string, cause error) error {
	line, column := position(node)
	return &placedError{fmt.Sprintf("%s:%d:%d: %s", f.name, line, column, text), cause}
}

func position(node ast.Node) (line, column int) {
	pos := node.GetToken().Position
	switch n := node.(type) { // the token of a block is its first colon
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			pos = n.Values[0].Key.GetToken().Position
		}
	case *ast.MappingValueNode:
		pos = n.Key.GetToken().Position
	}
	return pos.Line, pos.Column
}

// A placedError is an error with its place in front.
type placedError struct {
	text  string
	cause error // nil if the file is not YAML of this kind
}

// Error implements error.
func (e *placedError) Error() string { return e.text }

// Unwrap returns the cause.
func (e *placedError) Unwrap() error { return e.cause }
