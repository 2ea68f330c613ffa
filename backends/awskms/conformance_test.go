//go:build !noaws

package awskms_test

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"strings"
	"testing"

	"signetd/backends/awskms"
	"signetd/backends/awskms/awskmstest"
	"signetd/signer"
	"signetd/signer/signertest"
)

// lacks are the algorithms of JOSE that AWS does not have with the keys of sorts. Its
// HMAC keys do one each.
var lacks = []signer.Alg{signer.RSAOAEP384, signer.RSAOAEP512, signer.HS384, signer.HS512}

// sorts are KeySpec and KeyUsage of the keys for the suite's kinds.
var sorts = map[signertest.Kind][2]string{
	signertest.ECP256:    {"ECC_NIST_P256", "SIGN_VERIFY"},
	signertest.ECP384:    {"ECC_NIST_P384", "SIGN_VERIFY"},
	signertest.ECP521:    {"ECC_NIST_P521", "SIGN_VERIFY"},
	signertest.Secp256k1: {"ECC_SECG_P256K1", "SIGN_VERIFY"},
	signertest.Ed25519:   {"ECC_NIST_EDWARDS25519", "SIGN_VERIFY"},
	signertest.MLDSA44:   {"ML_DSA_44", "SIGN_VERIFY"},
	signertest.MLDSA65:   {"ML_DSA_65", "SIGN_VERIFY"},
	signertest.MLDSA87:   {"ML_DSA_87", "SIGN_VERIFY"},
	signertest.RSASig:    {"RSA_2048", "SIGN_VERIFY"},
	signertest.RSAEnc:    {"RSA_2048", "ENCRYPT_DECRYPT"},
	signertest.HMAC:      {"HMAC_256", "GENERATE_VERIFY_MAC"},
	signertest.ECDHP256:  {"ECC_NIST_P256", "KEY_AGREEMENT"},
	signertest.ECDHP384:  {"ECC_NIST_P384", "KEY_AGREEMENT"},
	signertest.ECDHP521:  {"ECC_NIST_P521", "KEY_AGREEMENT"},
}

// unlimited are rates that no test reaches.
var unlimited = awskms.Rates{RSA: 1e6, ECC: 1e6, MLDSA: 1e6, Symmetric: 1e6}

func open(t testing.TB, server *awskmstest.Server, change ...func(*awskms.Config)) *awskms.Backend {
	t.Helper()
	server.Setenv(t)
	c := awskms.Config{Region: server.Region(), Endpoint: server.URL(), Rates: unlimited}
	for _, f := range change {
		f(&c)
	}
	b, err := awskms.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestConformance(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{SessionToken: "token"})
	refs := map[signertest.Kind]string{}
	for kind, sort := range sorts {
		refs[kind] = server.CreateKey(sort[0], sort[1])
	}

	signertest.Run(t, signertest.Config{
		Open: func(t *testing.T) signer.Backend {
			// With the race detector, 64 agreements on P-521 at once take several seconds.
			return open(t, server, func(c *awskms.Config) { c.AttemptTimeout = "30s" })
		},
		Refs:    refs,
		Missing: "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000",
		Lacks:   lacks,
		HMACKey: server.Secret(refs[signertest.HMAC]),
	})
}

// TestConformanceElsewhere runs the suite against the server that
// SIGNETD_TEST_AWS_ENDPOINT names, or AWS itself if that is "aws", with the
// credentials of the environment. SIGNETD_TEST_AWS_KEYS is a file that has, on each
// line, an algorithm and the ref of a key for it, such as "ES256 arn:aws:kms:...".
func TestConformanceElsewhere(t *testing.T) {
	endpoint := os.Getenv("SIGNETD_TEST_AWS_ENDPOINT")
	if endpoint == "" {
		t.Skip("SIGNETD_TEST_AWS_ENDPOINT is not set")
	}
	config := awskms.Config{Region: os.Getenv("AWS_REGION"), AttemptTimeout: "30s", Rates: unlimited}
	if endpoint != "aws" {
		config.Endpoint = endpoint
	}
	refs := readKeys(t, os.Getenv("SIGNETD_TEST_AWS_KEYS"))
	missing := ""
	for _, ref := range refs {
		missing = ref[:strings.LastIndexByte(ref, '/')+1] + "00000000-0000-0000-0000-000000000000"
	}

	signertest.Run(t, signertest.Config{
		Open: func(t *testing.T) signer.Backend {
			b, err := awskms.Open(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		Refs: refs, Missing: missing, Lacks: lacks,
	})
}

// kinds are the suite's kinds of key, each by one of its algorithms.
var kinds = map[signer.Alg]signertest.Kind{
	signer.ES256: signertest.ECP256, signer.ES384: signertest.ECP384, signer.ES512: signertest.ECP521, signer.ES256K: signertest.Secp256k1,
	signer.MLDSA44: signertest.MLDSA44, signer.MLDSA65: signertest.MLDSA65, signer.MLDSA87: signertest.MLDSA87,
	signer.EdDSA: signertest.Ed25519, signer.RS256: signertest.RSASig, signer.RSAOAEP256: signertest.RSAEnc, signer.HS256: signertest.HMAC,
}

// curves are the kinds of key for ECDH-ES, by what follows the algorithm in the file.
var curves = map[string]signertest.Kind{"P-256": signertest.ECDHP256, "P-384": signertest.ECDHP384, "P-521": signertest.ECDHP521}

func readKeys(t *testing.T, path string) map[signertest.Kind]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatalf("SIGNETD_TEST_AWS_KEYS: %v", err)
	}
	defer f.Close()

	refs := map[signertest.Kind]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		alg, curve, _ := strings.Cut(words[0], "/")
		kind, ok := kinds[signer.Alg(alg)]
		if alg == string(signer.ECDHES) {
			kind, ok = curves[curve]
		}
		if !ok || len(words) != 2 {
			t.Fatalf("%s: %q is not an algorithm (RS256, ECDH-ES/P-256 and so on) and a ref", path, lines.Text())
		}
		refs[kind] = words[1]
	}
	return refs
}

func peerKey(t *testing.T) *ecdh.PublicKey {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k.PublicKey()
}

func closeOK(t *testing.T, b *awskms.Backend) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

func encryptTo(t *testing.T, k signer.Key, alg signer.Alg, plaintext []byte) []byte {
	t.Helper()
	pub, ok := k.Public().(*rsa.PublicKey)
	if !ok {
		t.Fatalf("Public() is a %T", k.Public())
	}
	ciphertext, err := rsa.EncryptOAEP(alg.Hash().New(), rand.Reader, pub, plaintext, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}
