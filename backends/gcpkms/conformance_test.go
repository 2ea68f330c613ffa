//go:build !nogcp

package gcpkms_test

import (
	"encoding/json"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/gcpkms"
	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/signer"
	"signetd/signer/signertest"
)

// plain returns a config with a long timeout: the fake signs on the CPUs of the test, and
// only the tests of faults are about time.
func plain(kms *gcpkmstest.Server) gcpkms.Config {
	return gcpkms.Config{Endpoint: kms.Endpoint(), Plaintext: true, AttemptTimeout: "30s"}
}

func mustOpen(t *testing.T, c gcpkms.Config) *gcpkms.Backend {
	t.Helper()
	b, err := gcpkms.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return b
}

// create makes a key and a version of it, and returns the version's name.
func create(kms *gcpkmstest.Server, id, algorithm string) string {
	return kms.CreateVersion(kms.CreateKey(id, gcpkmstest.Algorithm(kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm_value[algorithm])))
}

var kinds = map[signer.Alg]signertest.Kind{
	signer.ES256: signertest.ECP256, signer.ES384: signertest.ECP384, signer.ES256K: signertest.Secp256k1, signer.EdDSA: signertest.Ed25519,
	signer.MLDSA44: signertest.MLDSA44, signer.MLDSA65: signertest.MLDSA65, signer.MLDSA87: signertest.MLDSA87,
	signer.RS256: signertest.RSASig, signer.RS384: signertest.RSASig, signer.RS512: signertest.RSASig,
	signer.PS256: signertest.RSASig, signer.PS512: signertest.RSASig,
	signer.RSAOAEP: signertest.RSAEnc, signer.RSAOAEP256: signertest.RSAEnc, signer.RSAOAEP512: signertest.RSAEnc,
	signer.HS256: signertest.HMAC, signer.HS384: signertest.HMAC, signer.HS512: signertest.HMAC,
}

// conform runs the suite that every backend runs, once for each algorithm, since a version
// has only one.
func conform(t *testing.T, c gcpkms.Config, keys map[signer.Alg]string) {
	ec, ok := keys[signer.ES256]
	if !ok {
		t.Fatal("no key for ES256, which each run of the suite needs")
	}

	missing := regexp.MustCompile(`[0-9]+$`).ReplaceAllString(ec, "999999")
	for alg, ref := range keys {
		kind, ok := kinds[alg]
		if !ok {
			t.Errorf("the backend has no %s", alg)
			continue
		}
		t.Run(string(alg), func(t *testing.T) {
			key, err := mustOpen(t, c).OpenKey(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			has := key.(signer.AlgLister).Algs()
			if !slices.Contains(has, alg) {
				t.Fatalf("Algs() of the key for %s = %v", alg, has)
			}
			has = append(has, signer.ES256)
			var lacks []signer.Alg
			for other := range kinds {
				if !slices.Contains(has, other) {
					lacks = append(lacks, other)
				}
			}
			signertest.Run(t, signertest.Config{
				Open:    func(t *testing.T) signer.Backend { return mustOpen(t, c) },
				Refs:    map[signertest.Kind]string{signertest.ECP256: ec, kind: ref},
				Missing: missing,
				Lacks:   append(lacks, signer.PS384, signer.RSAOAEP384),
			})
		})
	}
}

// TestConformance runs the suite over a real gRPC connection.
func TestConformance(t *testing.T) {
	kms := gcpkmstest.New(t)
	algorithms := map[signer.Alg]string{
		signer.ES256: "EC_SIGN_P256_SHA256", signer.ES384: "EC_SIGN_P384_SHA384", signer.ES256K: "EC_SIGN_SECP256K1_SHA256", signer.EdDSA: "EC_SIGN_ED25519",
		signer.MLDSA44: "PQ_SIGN_ML_DSA_44", signer.MLDSA65: "PQ_SIGN_ML_DSA_65", signer.MLDSA87: "PQ_SIGN_ML_DSA_87_EXTERNAL_MU",
		signer.RS256: "RSA_SIGN_PKCS1_2048_SHA256", signer.RS384: "RSA_SIGN_RAW_PKCS1_2048", signer.RS512: "RSA_SIGN_RAW_PKCS1_3072",
		signer.PS256: "RSA_SIGN_PSS_2048_SHA256", signer.PS512: "RSA_SIGN_PSS_4096_SHA512",
		signer.RSAOAEP: "RSA_DECRYPT_OAEP_2048_SHA1", signer.RSAOAEP256: "RSA_DECRYPT_OAEP_2048_SHA256", signer.RSAOAEP512: "RSA_DECRYPT_OAEP_4096_SHA512",
		signer.HS256: "HMAC_SHA256", signer.HS384: "HMAC_SHA384", signer.HS512: "HMAC_SHA512",
	}
	keys := map[signer.Alg]string{}
	for alg, algorithm := range algorithms {
		keys[alg] = create(kms, string(alg), algorithm)
	}
	conform(t, plain(kms), keys)
}

// TestConformanceElsewhere runs the suite against the endpoint that
// SIGNETD_TEST_GCP_ENDPOINT names, with the keys that the file
// SIGNETD_TEST_GCP_KEYS lists: a JSON object of JOSE algorithm to the name of a
// version. An address of this host is an emulator; elsewhere TLS and Application
// Default Credentials are used.
func TestConformanceElsewhere(t *testing.T) {
	endpoint, file := os.Getenv("SIGNETD_TEST_GCP_ENDPOINT"), os.Getenv("SIGNETD_TEST_GCP_KEYS")
	if endpoint == "" {
		t.Skip("SIGNETD_TEST_GCP_ENDPOINT and SIGNETD_TEST_GCP_KEYS name no other server")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[signer.Alg]string{}
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	conform(t, gcpkms.Config{Endpoint: endpoint, Plaintext: net.ParseIP(host).IsLoopback()}, keys)
}

// TestEveryAlgorithm opens a version of each of Google's algorithms that has a use,
// and signs, decrypts or makes a MAC with it.
func TestEveryAlgorithm(t *testing.T) {
	kms := gcpkmstest.New(t)
	b := mustOpen(t, plain(kms))

	for algorithm, algs := range gcpkms.Table() {
		t.Run(algorithm, func(t *testing.T) {
			key, err := b.OpenKey(t.Context(), "gcpkms:///"+create(kms, algorithm, algorithm))
			if err != nil {
				t.Fatal(err)
			}
			if len(algs) == 0 {
				if _, ok := key.(signer.BlobCipher); !ok {
					t.Errorf("OpenKey() = %T, want a signer.BlobCipher", key)
				}
				return
			}
			v, err := signer.NewVersion(key, signer.VersionConfig{KID: "k", Algs: algs})
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Prove(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTable compares the table with the enumeration of Google's client.
func TestTable(t *testing.T) {
	known := gcpkms.Known()
	for name := range maps.Keys(kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm_value) {
		if name != "CRYPTO_KEY_VERSION_ALGORITHM_UNSPECIFIED" && !slices.Contains(known, name) {
			t.Errorf("%s is not in the table: what is it good for, or why is it not?", name)
		}
	}
	for _, name := range known {
		if _, ok := kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm_value[name]; !ok {
			t.Errorf("%s is in the table, and Google's client does not know it", name)
		}
	}
}
