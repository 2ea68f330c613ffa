package backends_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"signetd/backends"
	"signetd/backends/awskms"
	"signetd/backends/gcpkms"
	"signetd/backends/pkcs11"
	"signetd/backends/software"
	"signetd/signer"
)

func TestOpen(t *testing.T) {
	tests := []struct {
		name   string
		config backends.Config
		want   error
		text   string
	}{
		{"none", backends.Config{}, signer.ErrInvalid, "exactly one of pkcs11, awskms, gcpkms, "},
		{"two", backends.Config{AWSKMS: &awskms.Config{}, Software: &software.Config{}}, signer.ErrInvalid, "has awskms and software"},
		{"pkcs11", backends.Config{PKCS11: &pkcs11.Config{Module: "relative"}}, nil, "pkcs11: "},
		{"awskms", backends.Config{AWSKMS: &awskms.Config{Endpoint: "ftp://x"}}, nil, "awskms: "},
		{"gcpkms", backends.Config{GCPKMS: &gcpkms.Config{Endpoint: "ftp://x"}}, nil, "gcpkms: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := backends.Open(t.Context(), tt.config)
			if b != nil || err == nil || !strings.Contains(err.Error(), tt.text) || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Open() = %v, %v; want nil and an error with %q", b, err, tt.text)
			}
		})
	}

	b, err := backends.Open(t.Context(), backends.Config{Software: &software.Config{}})
	if err != nil || b == nil {
		t.Fatalf("Open(software) = %v, %v", b, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestKinds holds the list of kinds to the fields of Config: a field without a kind
// would be read from a config, and then ignored.
func TestKinds(t *testing.T) {
	var fields, kinds []string
	config := reflect.TypeFor[backends.Config]()

	for i := range config.NumField() {
		if name := config.Field(i).Tag.Get("yaml"); name != "name" {
			fields = append(fields, name)
		}
	}

	for _, k := range backends.Kinds() {
		kinds = append(kinds, k.Name)
		if k.Title == "" {
			t.Errorf("kind %s has no title", k.Name)
		}
	}

	if !slices.Equal(kinds, fields) {
		t.Errorf("Kinds() are %v, and the fields of Config %v", kinds, fields)
	}
}

// TestFileNames holds the two cloud backends to the same file names, so that a reader
// who knows one finds everything in the other. A file that only one of them needs is
// listed here. Software keys have the names that apply to them.
func TestFileNames(t *testing.T) {
	own := map[string][]string{
		"awskms": {"agree.go"},
		"gcpkms": {"expand.go", "permissions.go"},
	}
	names := map[string][]string{}

	for backend, only := range own {
		files, err := filepath.Glob(backend + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			name := filepath.Base(f)
			if !strings.HasSuffix(name, "_test.go") && !slices.Contains(only, name) {
				names[backend] = append(names[backend], name)
			}
		}
	}

	if aws, gcp := names["awskms"], names["gcpkms"]; !slices.Equal(aws, gcp) {
		t.Errorf("awskms has the files %v\ngcpkms has the files %v\nwant the same names, but for those of one backend alone: %v", aws, gcp, own)
	}

	for _, name := range []string{"backend.go", "decrypt.go", "doc.go", "key.go", "sign.go", "symmetric.go", "table.go"} {
		if _, err := os.Stat(filepath.Join("software", name)); err != nil {
			t.Error(err)
		}
	}
}
