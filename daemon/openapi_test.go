package daemon

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"signetd/daemon/api"
	"signetd/daemon/api/apitest"
	"signetd/signer"
)

func document(t *testing.T) *apitest.Document {
	t.Helper()
	d, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Each route is in docs/api/openapi.yaml, and nothing else is.
func TestOpenAPIRoutes(t *testing.T) {
	d := document(t)
	described := d.Operations()
	for path, r := range entries {
		if takes := r.Method == "POST" && path != api.ReloadConfig.Path; d.Batches(path) != takes {
			t.Errorf("%s: described as taking a batch: %t, want %t", path, !takes, takes)
		}
		if got := described[path]; !slices.Equal(got, []string{r.Method}) {
			t.Errorf("%s: described with %v, want %s", path, got, r.Method)
		}
		delete(described, path)
	}
	if len(entries) != len(api.Routes) {
		t.Errorf("%d entries in the table of operations, and %d routes", len(entries), len(api.Routes))
	}
	if len(described) != 0 {
		t.Errorf("described, and no routes: %v", described)
	}
}

// A member is one of a struct of package api.
type member struct {
	name, typ string
	optional  bool // it may be left out of an answer
}

// apiStructs reads the structs of package api from its source.
func apiStructs(t *testing.T) map[string][]member {
	t.Helper()
	entries, err := os.ReadDir("api")
	if err != nil {
		t.Fatal(err)
	}
	structs := map[string][]member{}
	for _, e := range entries {
		if e.IsDir() || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), "api/"+e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok && spec.Name.IsExported() && spec.TypeParams == nil { // TestOpenAPIRoutes has the batches
				structs[spec.Name.Name] = members(s)
			}
			return false
		})
	}
	return structs
}

func members(s *ast.StructType) []member {
	list := []member{}
	for _, f := range s.Fields.List {
		if f.Tag == nil {
			continue // embedded: its members are in it
		}
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
		name, options, _ := strings.Cut(tag, ",")
		list = append(list, member{name, typeOf(f.Type), strings.Contains(options, "omit")})
	}
	return list
}

// typeOf is the JSON type of what is no struct, or empty.
func typeOf(e ast.Expr) string {
	if a, ok := e.(*ast.ArrayType); ok && a.Len == nil {
		return "array"
	}
	id, _ := e.(*ast.Ident)
	if id == nil {
		return ""
	}
	return map[string]string{"string": "string", "bool": "boolean", "int": "integer", "int64": "integer", "Bytes": "string"}[id.Name]
}

// Each struct of package api is a schema of the same name with the same members,
// and each schema with members is such a struct.
func TestOpenAPIMembers(t *testing.T) {
	d, structs := document(t), apiStructs(t)
	if len(structs) < 25 {
		t.Fatalf("found %d structs in package api, want all", len(structs))
	}
	requests := d.RequestSchemas()
	delete(structs, "Route")    // which does not go over the socket
	delete(structs, "Endpoint") // nor does this
	for name, want := range structs {
		schema := d.Schema(name)
		if schema == nil {
			t.Errorf("api.%s is no schema", name)
			continue
		}
		properties, _ := schema["properties"].(map[string]any)
		for _, m := range want {
			p, ok := properties[m.name]
			if !ok {
				t.Errorf("schema %s lacks the member %q", name, m.name)
			}
			checkType(t, d, name, m, p)
			required, _ := schema["required"].([]any)
			if isRequired := slices.Contains(required, any(m.name)); m.optional && isRequired {
				t.Errorf("schema %s requires %q, which may be absent", name, m.name)
			} else if !m.optional && !isRequired && !slices.Contains(requests, name) {
				t.Errorf("schema %s does not require %q, which is always there", name, m.name)
			}
		}
		if len(properties) != len(want) {
			t.Errorf("schema %s has %d members, the struct %d", name, len(properties), len(want))
		}
	}
	for _, name := range d.Schemas() {
		properties, _ := d.Schema(name)["properties"].(map[string]any)
		if _, ok := structs[name]; !ok && len(properties) > 0 && name != "PublicJWK" && name != "JWKSet" {
			t.Errorf("schema %s is no struct of package api", name)
		}
	}
	for _, name := range requests {
		if d.Schema(name)["additionalProperties"] != false {
			t.Errorf("schema %s is a request's and lets any member through; the daemon does not", name)
		}
	}
}

// checkType compares types where the schema says one outright.
func checkType(t *testing.T, d *apitest.Document, name string, m member, property any) {
	t.Helper()
	p, _ := property.(map[string]any)
	if ref, ok := p["$ref"].(string); ok {
		p = d.Schema(ref[strings.LastIndexByte(ref, '/')+1:])
	}
	if typ, ok := p["type"].(string); ok && m.typ != "" && typ != m.typ {
		t.Errorf("schema %s has %q as %s, the struct as %s", name, m.name, typ, m.typ)
	}
}

// The algorithms of package signer are those of the description, and the codes too.
func TestOpenAPINames(t *testing.T) {
	d := document(t)
	described := map[signer.Alg]bool{}
	for schema, use := range map[string]signer.Use{"SignatureAlg": signer.UseSig, "EncryptionAlg": signer.UseEnc} {
		list, _ := d.Schema(schema)["enum"].([]any)
		for _, v := range list {
			alg, _ := v.(string)
			described[signer.Alg(alg)] = true
			if got := signer.Alg(alg).Use(); got != use {
				t.Errorf("%s has %q, which is for %q", schema, alg, got)
			}
		}
	}
	f, err := parser.ParseFile(token.NewFileSet(), "../signer/alg.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if id, isID := n.(*ast.ValueSpec); ok && isID && len(id.Values) == 1 {
			lit, isLit := spec.Values[0].(*ast.BasicLit)
			if typ, isAlg := spec.Type.(*ast.Ident); isLit && isAlg && typ.Name == "Alg" {
				known++
				if alg := signer.Alg(strings.Trim(lit.Value, `"`)); !described[alg] {
					t.Errorf("the algorithm %s is not described", alg)
				}
			}
		}
		return true
	})
	if known != len(described) || known < 29 {
		t.Errorf("package signer has %d algorithms, %d are described", known, len(described))
	}
	codes, _ := d.Schema("ErrorCode")["enum"].([]any)
	for code := range statuses {
		if !slices.Contains(codes, any(code)) {
			t.Errorf("the code %s is not described", code)
		}
	}
	if len(codes) != len(statuses) {
		t.Errorf("%d codes are described, the daemon has %d", len(codes), len(statuses))
	}
}
