//go:build cgo

package interop_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"signetd/signer"
	"signetd/softhsm"
)

// A job is one operation of a peer. Its key is private, public or symmetric, as the
// operation needs.
type job struct {
	Op    string         `json:"op"` // encrypt, decrypt, sign or verify
	Alg   signer.Alg     `json:"alg"`
	Enc   string         `json:"enc,omitempty"`
	JWK   map[string]any `json:"jwk"`
	Input string         `json:"input"` // plaintext, payload, or a compact serialization
}

type result struct {
	Output string `json:"output"`
	Error  string `json:"error"`
}

// A peer is another implementation of JOSE.
type peer struct {
	name string
	do   func(t testing.TB, jobs []job) []result
	// lacks are the algorithms of signetd that the peer does not know. All others must
	// work.
	lacks []signer.Alg
	// needs is the command that the peer needs.
	needs string
}

var peers = []peer{
	{name: "go-jose", do: goJose, lacks: []signer.Alg{signer.RSAOAEP384, signer.RSAOAEP512, signer.ES256K, signer.Ed25519}},
	{name: "jose (npm)", do: nodeJose, needs: "node", lacks: []signer.Alg{signer.RSA15, signer.ES256K}},
	{name: "jose (latchset)", do: latchset, needs: "jose", lacks: []signer.Alg{
		signer.RSAOAEP, signer.RSAOAEP256, signer.RSAOAEP384, signer.RSAOAEP512, // it lost these with OpenSSL 3
		signer.ES256K, signer.EdDSA, signer.Ed25519,
	}},
}

// all runs one function for each job.
func all(jobs []job, do func(job) (string, error)) []result {
	results := make([]result, len(jobs))
	for i, j := range jobs {
		out, err := do(j)
		results[i].Output = out
		if err != nil {
			results[i].Error = err.Error()
		}
	}
	return results
}

func goJose(t testing.TB, jobs []job) []result {
	return all(jobs, func(j job) (string, error) {
		var jwk jose.JSONWebKey
		if err := json.Unmarshal(encode(t, j.JWK), &jwk); err != nil {
			return "", err
		}
		switch j.Op {
		case "encrypt":
			e, err := jose.NewEncrypter(jose.ContentEncryption(j.Enc), jose.Recipient{Algorithm: jose.KeyAlgorithm(j.Alg), Key: jwk.Key, KeyID: jwk.KeyID}, nil)
			if err != nil {
				return "", err
			}
			o, err := e.Encrypt([]byte(j.Input))
			if err != nil {
				return "", err
			}
			return o.CompactSerialize()
		case "decrypt":
			o, err := jose.ParseEncryptedCompact(j.Input, []jose.KeyAlgorithm{jose.KeyAlgorithm(j.Alg)}, []jose.ContentEncryption{jose.ContentEncryption(j.Enc)})
			if err != nil {
				return "", err
			}
			out, err := o.Decrypt(jwk.Key)
			return string(out), err
		case "sign":
			s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(j.Alg), Key: jwk}, nil)
			if err != nil {
				return "", err
			}
			o, err := s.Sign([]byte(j.Input))
			if err != nil {
				return "", err
			}
			return o.CompactSerialize()
		default:
			o, err := jose.ParseSignedCompact(j.Input, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(j.Alg)})
			if err != nil {
				return "", err
			}
			out, err := o.Verify(jwk.Key)
			return string(out), err
		}
	})
}

// nodeJose runs testdata/jose.mjs beside the packages that install-deps.sh installed.
func nodeJose(t testing.TB, jobs []job) []result {
	t.Helper()
	dir := t.TempDir()
	script, err := os.ReadFile("testdata/jose.mjs")
	must(t, "jose.mjs", err)
	write(t, filepath.Join(dir, "jose.mjs"), script)
	must(t, "node_modules", os.Symlink(softhsm.NodeModules(t), filepath.Join(dir, "node_modules")))
	cmd := exec.CommandContext(t.Context(), "node", "jose.mjs")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(encode(t, jobs))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr

	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, stderr.String())
	}
	var results []result
	must(t, "node's answer", json.Unmarshal(out, &results))
	return results
}

// latchset runs the command jose once for each job.
func latchset(t testing.TB, jobs []job) []result {
	dir := t.TempDir()
	return all(jobs, func(j job) (string, error) {
		key, in, template := filepath.Join(dir, "key"), filepath.Join(dir, "in"), `{"protected":`
		jwk := map[string]any{}
		for name, v := range j.JWK {
			jwk[name] = v
		}
		jwk["alg"] = j.Alg

		if j.Alg == signer.Dir { // it names a shared key after the content encryption
			jwk["alg"] = j.Enc
		}
		write(t, key, encode(t, jwk))
		write(t, in, []byte(j.Input))
		head := map[string]any{"alg": j.Alg, "kid": j.JWK["kid"]}

		if j.Enc != "" {
			head["enc"] = j.Enc
		}
		template += string(encode(t, head)) + "}"
		args := map[string][]string{
			"encrypt": {"jwe", "enc", "-i", template, "-I", in, "-k", key, "-c", "-o", "-"},
			"decrypt": {"jwe", "dec", "-i", in, "-k", key, "-O", "-"},
			"sign":    {"jws", "sig", "-s", template, "-I", in, "-k", key, "-c", "-o", "-"},
			"verify":  {"jws", "ver", "-i", in, "-k", key, "-O", "-"},
		}[j.Op]

		var stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "jose", args...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
		}
		if len(out) == 0 {
			return "", errors.New("jose printed nothing")
		}
		return string(out), nil
	})
}
