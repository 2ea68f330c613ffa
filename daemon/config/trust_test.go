package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signetd/signer"
)

// Public keys of RFC 7517 appendix A.1 and RFC 8037 appendix A.2.
const (
	ecJWK = `{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}`
	okJWK = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"2","use":"sig"}`
)

// trusting is good, with two issuers and two recipients. JWKS stands for the path of a
// file.
const trusting = good + `issuers:
  - name: idp
    issuer: https://idp.example
    jwks_file: JWKS
    algs: [ES256, EdDSA]
    audiences: [us]
    skew: 30s
    required: [sub]
  - {name: ours, issuer: "https://old.example", key: oidc, algs: [ES256], audiences: [us]}
recipients:
  - name: partner
    jwk: ` + ecJWK + `
    alg: ECDH-ES+A128KW
    enc: A128GCM
  - {name: other, jwks_file: JWKS, kid: "1", alg: ECDH-ES}
`

// file writes a JWK set and returns its path.
func file(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTrust(t *testing.T) {
	jwks := file(t, `{"keys":[`+ecJWK+`,`+okJWK+`,{"kty":"OKP","crv":"X25519","x":"AA"},{"kty":"XYZ"}]}`, 0o644)
	text := strings.ReplaceAll(trusting, "JWKS", jwks) + `  - {name: pasted, jwk: {"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","alg":"ECDH-ES+A256KW","use":"enc"}}
`
	text = strings.Replace(text, "grants:\n", "grants:\n  - {peer: {user: 4711}, ops: [verify, verify-jws], keys: [idp, ours]}\n  - {peer: {user: 4711}, ops: [encrypt], keys: [partner, other]}\n", 1)
	f, err := parse("test.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	setup, err := f.Setup()
	if err != nil {
		t.Fatal(err)
	}
	if len(setup.Issuers) != 2 || len(setup.Issuers[0].Keys) != 2 || setup.Issuers[1].Key != "oidc" || setup.Issuers[0].Accept == nil {
		t.Errorf("issuers %+v", setup.Issuers)
	}
	want := []string{"partner 1 ECDH-ES+A128KW A128GCM", "other 1 ECDH-ES ", "pasted  ECDH-ES+A256KW "}
	for i, r := range setup.Recipients {
		if got := fmt.Sprint(r.Name, " ", r.KID, " ", r.Alg, " ", r.Enc); i >= len(want) || got != want[i] {
			t.Errorf("recipient %d is %q, want %q", i, got, want)
		}
	}
}

// TestTrustRefuses changes one thing in a config that is good.
func TestTrustRefuses(t *testing.T) {
	good := file(t, `{"keys":[`+ecJWK+`,`+okJWK+`]}`, 0o644)
	const canary = "aHVudGVyMg"
	tests := []struct {
		name, old, new string
		line           int // 0 where the error has none
		want           string
	}{
		{"a name that is a key's", "name: idp", "name: oidc", 23, "appears twice: lines"},
		{"a name that is an issuer's", "name: partner", "name: idp", 32, "appears twice: lines"},
		{"no name", "name: ours, ", "", 30, "begin with a letter"},
		{"no issuer", "    issuer: https://idp.example\n", "", 23, "issuer"},
		{"no algs", "algs: [ES256, EdDSA]", "algs: []", 26, "algs"},
		{"alg none", "algs: [ES256, EdDSA]", "algs: [none]", 26, "not a signature algorithm"},
		{"an alg of encryption", "algs: [ES256, EdDSA]", "algs: [ES256, dir]", 26, "algs[1]"},
		{"an alg twice", "algs: [ES256, EdDSA]", "algs: [ES256, ES256]", 26, "appears twice in line 26"},
		{"no audiences", "audiences: [us]\n", "audiences: []\n", 27, "audiences"},
		{"no skew", "skew: 30s", "skew: 0s", 28, "skew"},
		{"a skew too long", "skew: 30s", "skew: 30h", 28, "skew"},
		{"neither file nor key", "    jwks_file: JWKS\n", "", 23, "exactly one of jwks_file and key"},
		{"file and key", "key: oidc", "key: oidc, jwks_file: JWKS", 30, "exactly one of jwks_file and key"},
		{"an unknown key", "key: oidc", "key: odic", 30, `"odic"`},
		{"an alg that the key does not do", "key: oidc, algs: [ES256]", "key: oidc, algs: [ES384]", 30, "ES384"},
		{"a relative file", "jwks_file: JWKS", "jwks_file: jwks.json", 25, "absolute"},
		{"a file that is not there", "jwks_file: JWKS", "jwks_file: /nonexistent/jwks.json", 25, "no such file"},
		{"a file that anybody may write", "jwks_file: JWKS", "jwks_file: " + file(t, `{"keys":[`+ecJWK+`]}`, 0o666), 25, "any user could write"},
		{"no JWK set", "jwks_file: JWKS", "jwks_file: " + file(t, ecJWK, 0o644), 25, "not a JWK set"},
		{"a secret in it", "jwks_file: JWKS", "jwks_file: " + file(t, `{"keys":[`+ecJWK+`,{"kty":"oct","k":"`+canary+`"}]}`, 0o644), 25, "key 2"},
		{"a point off its curve", "jwks_file: JWKS", "jwks_file: " + file(t, `{"keys":[`+strings.Replace(ecJWK, "MKBC", "MKBD", 1)+`]}`, 0o644), 25, "key 1"},
		{"no key that fits", "jwks_file: JWKS\n    algs: [ES256, EdDSA]", "jwks_file: JWKS\n    algs: [RS256]", 25, "fits"},
		{"only keys for encryption", "jwks_file: JWKS", "jwks_file: " + file(t, `{"keys":[`+strings.Replace(ecJWK, `"kid"`, `"use":"enc","kid"`, 1)+`]}`, 0o644), 25, "fits"},
		{"an unknown member", "    required: [sub]", "    require: [sub]", 29, "require"},
		{"neither jwk nor file", "    jwk: " + ecJWK + "\n", "", 32, "exactly one of jwk and jwks_file"},
		{"a secret as the key", "jwk: " + ecJWK, `jwk: {"kty":"oct","k":"` + canary + `"}`, 33, "not a public key"},
		{"a key to verify with", "jwk: " + ecJWK, "jwk: " + okJWK, 33, "verify with"},
		{"no alg", "    alg: ECDH-ES+A128KW\n", "", 32, "alg"},
		{"an alg of another key", "alg: ECDH-ES+A128KW", "alg: RSA-OAEP", 32, "RSA-OAEP"},
		{"RSA1_5", "alg: ECDH-ES+A128KW", "alg: RSA1_5", 32, "RSA1_5"},
		{"PBES2", "alg: ECDH-ES+A128KW", "alg: PBES2-HS256+A128KW", 32, "PBES2"},
		{"an unknown enc", "enc: A128GCM", "enc: ROT13", 32, "ROT13"},
		{"a kid that is not in the file", `kid: "1"`, `kid: "9"`, 36, "0 keys"},
		{"a grant to decrypt for others", "ops: [sign-jwt]\n    keys: [oidc]", "ops: [decrypt]\n    keys: [partner]", 19, "a recipient"},
		{"a grant to sign as others", "ops: [sign-jwt]\n    keys: [oidc]", "ops: [sign-jws]\n    keys: [idp]", 19, "a trusted issuer"},
		{"a MAC past the rules", "ops: [sign-jwt]", "ops: [mac-sign]", 19, "bypass_claim_policy"},
		{"a limit below zero", "connections: 10", "batch: -1", 2, "limits.batch"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(trusting, tt.old) {
				t.Fatalf("%q is not in the good config", tt.old)
			}
			err := load(strings.ReplaceAll(strings.Replace(trusting, tt.old, tt.new, 1), "JWKS", good))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error is %v, want it to hold %q", err, tt.want)
			}
			if place := fmt.Sprintf("test.yaml:%d:", tt.line); !strings.HasPrefix(err.Error(), place) {
				t.Errorf("error is %v, want it at %s", err, place)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("error %v holds a secret", err)
			}
		})
	}
}

// TestTrustBounds: the number of keys in a set is bounded, and the size of its file.
func TestTrustBounds(t *testing.T) {
	many := `{"keys":[` + strings.Repeat(ecJWK+",", 64) + ecJWK + `]}`
	if set, err := signer.ParseJWKSet([]byte(many)); err == nil {
		t.Errorf("ParseJWKSet() of 65 keys = %d keys", len(set.Keys))
	}
	if _, err := readJWKS(file(t, strings.Repeat(" ", maxJWKS+1), 0o600)); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("readJWKS(huge) = %v, want an error", err)
	}
}
