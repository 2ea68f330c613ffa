// Package apitest holds what goes over the daemon's socket against
// docs/api/openapi.yaml: a [Transport] in the client of a test checks every
// request and answer that passes.
//
// It is stricter than the description in one point. Within v1 an answer may gain
// members, and clients pass over them; here a member that is not described is an
// error, so that it gets described.
package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	apidoc "signetd/docs/api"
)

// A Document is an OpenAPI description that can check. It is safe for concurrent
// use.
type Document struct {
	tree     map[string]any
	compiler *jsonschema.Compiler

	mu      sync.Mutex
	schemas map[string]*jsonschema.Schema // by JSON pointer
}

// resource is the name that the document has within the compiler.
const resource = "openapi.json"

// Load returns the description in docs/api.
var Load = sync.OnceValues(func() (*Document, error) { return parse(apidoc.OpenAPI) })

func parse(text []byte) (*Document, error) {
	var tree map[string]any
	if err := yaml.UnmarshalWithOptions(text, &tree, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	seal(tree["components"])
	seal(tree["paths"])

	data, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	resolved, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}

	d := &Document{tree: tree, compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(resource, resolved); err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}

	for name := range object(tree, "components", "schemas") {
		if _, err := d.schema("/components/schemas/" + name); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// seal closes each object that does not say whether it has further members.
func seal(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		_, says := s["additionalProperties"]
		if _, ok := s["properties"]; ok && s["type"] == "object" && !says {
			s["additionalProperties"] = false
		}
		for _, v := range s {
			seal(v)
		}
	case []any:
		for _, v := range s {
			seal(v)
		}
	}
}

// object is the object at a path of names, or nil.
func object(tree any, path ...string) map[string]any {
	for _, name := range path {
		m, _ := tree.(map[string]any)
		tree = m[name]
	}
	m, _ := tree.(map[string]any)
	return m
}

// Operations are what the document describes: the methods, in capitals, of each path.
func (d *Document) Operations() map[string][]string {
	all := map[string][]string{}
	for path, item := range object(d.tree, "paths") {
		for name := range object(item) {
			if name != "parameters" {
				all[path] = append(all[path], strings.ToUpper(name))
			}
		}
		slices.Sort(all[path])
	}
	return all
}

// Schema is the named schema of the document, or nil. It must not be changed.
func (d *Document) Schema(name string) map[string]any {
	return object(d.tree, "components", "schemas", name)
}

// Schemas are the names of all schemas.
func (d *Document) Schemas() (names []string) {
	for name := range object(d.tree, "components", "schemas") {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// RequestSchemas are the names of the schemas that a request body refers to
// directly.
func (d *Document) RequestSchemas() (names []string) {
	for _, item := range object(d.tree, "paths") {
		for _, op := range object(item) {
			if name, _ := request(object(op)); name != "" {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// request is the name of the schema that a request body of an operation has, and
// whether it may hold a batch of such.
func request(op map[string]any) (name string, batch bool) {
	schema := object(op, "requestBody", "content", "application/json", "schema")
	if forms, ok := schema["oneOf"].([]any); ok && len(forms) == 2 {
		schema = object(forms[0])
		batch = object(forms[1], "properties", "batch") != nil
	}
	ref, _ := schema["$ref"].(string)
	return ref[strings.LastIndexByte(ref, '/')+1:], batch
}

// Batches reports whether a path's POST takes a batch.
func (d *Document) Batches(path string) bool {
	_, batch := request(object(d.tree, "paths", path, "post"))
	return batch
}

// schema compiles the schema at a JSON pointer.
func (d *Document) schema(pointer string) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.schemas[pointer]; ok {
		return s, nil
	}
	s, err := d.compiler.Compile(resource + "#" + pointer)
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	d.schemas[pointer] = s
	return s, nil
}

// validate holds one JSON value against the schema at a JSON pointer.
func (d *Document) validate(pointer string, text []byte) error {
	s, err := d.schema(pointer)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("not one JSON value: %w", err)
	}
	return s.Validate(value)
}

// Valid holds one JSON value against a named schema.
func (d *Document) Valid(schema string, text []byte) error {
	return d.validate("/components/schemas/"+schema, text)
}

// escape makes a name part of a JSON pointer (RFC 6901 section 3), and of a URI.
func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(name)
}
