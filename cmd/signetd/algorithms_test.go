//go:build !noaws

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"signetd/backends"
	"signetd/signer"
)

func algorithms(t *testing.T, format string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := root()
	cmd.SetArgs([]string{"algorithms", "--format", format})
	cmd.SetOut(&out)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("signetd algorithms --format %s: %v", format, err)
	}
	return out.String()
}

// TestAlgorithmsDoc holds docs/algorithms.md to the code.
func TestAlgorithmsDoc(t *testing.T) {
	doc, err := os.ReadFile("../../docs/algorithms.md")
	if err != nil {
		t.Fatal(err)
	}
	if table := algorithms(t, "md"); !strings.Contains(string(doc), "\n\n"+table+"\n") {
		t.Errorf("docs/algorithms.md is old: it does not hold what `signetd algorithms --format md` prints:\n%s", table)
	}
}

// TestAlgorithms holds the table to what the two clouds document.
func TestAlgorithms(t *testing.T) {
	var rows []struct {
		Alg                              signer.Alg
		Use                              signer.Use
		PKCS11, AWSKMS, GCPKMS, Software []string
	}
	if err := json.Unmarshal([]byte(algorithms(t, "json")), &rows); err != nil {
		t.Fatal(err)
	}
	type has struct{ aws, gcp bool }
	both, neither, awsOnly, gcpOnly := has{true, true}, has{}, has{aws: true}, has{gcp: true}
	want := map[signer.Alg]has{
		signer.RS256: both, signer.RS384: both, signer.RS512: both, signer.PS256: both, signer.PS384: awsOnly, signer.PS512: both,
		signer.ES256: both, signer.ES384: both, signer.ES512: awsOnly, signer.ES256K: both, signer.EdDSA: both, signer.Ed25519: both,
		signer.HS256: both, signer.HS384: both, signer.HS512: both,
		signer.RSAOAEP: both, signer.RSAOAEP256: both, signer.RSAOAEP384: neither, signer.RSAOAEP512: gcpOnly,
		signer.ECDHES: awsOnly, signer.ECDHESA128KW: awsOnly, signer.ECDHESA192KW: awsOnly, signer.ECDHESA256KW: awsOnly,
		signer.A128KW: neither, signer.A192KW: neither, signer.A256KW: neither,
		signer.A128GCMKW: neither, signer.A192GCMKW: neither, signer.A256GCMKW: neither, signer.Dir: neither,
		signer.MLDSA44: both, signer.MLDSA65: both, signer.MLDSA87: both, signer.RSA15: neither,
	}
	if len(rows) != len(want) {
		t.Errorf("%d algorithms, want %d", len(rows), len(want))
	}
	for _, r := range rows {
		if got := (has{len(r.AWSKMS) > 0, len(r.GCPKMS) > 0}); got != want[r.Alg] {
			t.Errorf("%s: %+v, want %+v", r.Alg, got, want[r.Alg])
		}
		if r.Use != r.Alg.Use() {
			t.Errorf("%s: use is %q, want %q", r.Alg, r.Use, r.Alg.Use())
		}
		if len(r.Software) == 0 || r.PKCS11 == nil || r.AWSKMS == nil || r.GCPKMS == nil {
			t.Errorf("%s: %+v: software does all, and what is not there is an empty list", r.Alg, r)
		}
	}
	if text := algorithms(t, "text"); !strings.Contains(text, "PS384           what the token has  yes      no                yes") {
		t.Errorf("signetd algorithms printed\n%s", text)
	}
}

// TestAlgorithmsOfAnotherKind adds a kind of backend that this command does not
// know, and finds it in every format.
func TestAlgorithmsOfAnotherKind(t *testing.T) {
	fake := backends.Kind{Name: "fake", Title: "Fake KMS", KeysFor: func(alg signer.Alg) []string {
		if alg == signer.ES256 {
			return []string{"FAKE_P256"}
		}
		return nil
	}}
	table := algorithmTable(append(backends.Kinds()[:1], fake))

	var text, md, data bytes.Buffer
	if err := table.text(&text); err != nil {
		t.Fatal(err)
	}
	table.markdown(&md)
	if err := table.json(&data); err != nil {
		t.Fatal(err)
	}

	for format, tt := range map[string]struct {
		out  string
		want []string
	}{
		"text": {text.String(), []string{"PKCS#11             Fake KMS\n", "what the token has  yes\n", "what the token has  no\n"}},
		"md":   {md.String(), []string{" | PKCS#11 | Fake KMS |\n", " | what the token has | FAKE_P256 |\n", " | what the token has | no |\n"}},
		"json": {data.String(), []string{"\"fake\": [\n      \"FAKE_P256\"\n    ]\n", "\"fake\": []\n"}},
	} {
		for _, want := range tt.want {
			if !strings.Contains(tt.out, want) {
				t.Errorf("signetd algorithms --format %s lacks %q:\n%s", format, want, tt.out)
			}
		}
	}
}
