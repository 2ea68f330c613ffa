//go:build !nogcp

package gcpkms_test

import (
	"bytes"
	"crypto"
	"errors"
	"strings"
	"testing"

	"filippo.io/mldsa"

	"signetd/backends/gcpkms"
	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/signer"
)

const (
	mldsaData = "PQ_SIGN_ML_DSA_65"             // is sent the message
	mldsaMu   = "PQ_SIGN_ML_DSA_65_EXTERNAL_MU" // is sent the mu
)

func openMLDSA(t *testing.T, b *gcpkms.Backend, ref string) (signer.Signer, *mldsa.PublicKey) {
	t.Helper()
	key, err := b.OpenKey(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	akp, ok := key.Public().(*signer.AKP)
	if !ok {
		t.Fatalf("Public() is a %T", key.Public())
	}
	pub, err := mldsa.NewPublicKey(mldsa.MLDSA65(), akp.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return key.(signer.Signer), pub
}

// TestMLDSA signs messages up to the limit of each type of version, with no more
// permissions than signers have. It never gets a signature that is not the key's.
func TestMLDSA(t *testing.T) {
	t.Parallel()
	kms := gcpkmstest.New(t)
	kms.SetPermissions("cloudkms.cryptoKeyVersions.viewPublicKey", "cloudkms.cryptoKeyVersions.useToSign")
	b := mustOpen(t, plain(kms))
	const limit = 64 << 10

	for algorithm, tests := range map[string]map[int]error{
		mldsaData: {0: signer.ErrInvalid, 1: nil, limit: nil, limit + 1: signer.ErrInvalid},
		mldsaMu:   {0: nil, 1: nil, limit: nil, 3 * limit: nil},
	} {
		k, pub := openMLDSA(t, b, create(kms, algorithm, algorithm))
		for size, want := range tests {
			message := bytes.Repeat([]byte("m"), size)
			sig, err := k.SignContext(t.Context(), message, crypto.Hash(0))
			if !errors.Is(err, want) {
				t.Errorf("%s: SignContext(%d bytes) = %v, want %v", algorithm, size, err, want)
			} else if want == nil && mldsa.Verify(pub, message, sig, nil) != nil {
				t.Errorf("%s: SignContext(%d bytes): the signature does not verify", algorithm, size)
			}
		}
		for _, kind := range []gcpkmstest.Kind{gcpkmstest.AnotherKey, gcpkmstest.FlippedBit, gcpkmstest.NotVerified, gcpkmstest.WrongCRC} {
			kms.Inject(gcpkmstest.Fault{Method: "AsymmetricSign", Kind: kind, Times: -1})
			if sig, err := k.SignContext(t.Context(), []byte("m"), crypto.Hash(0)); sig != nil || err == nil {
				t.Errorf("%s: SignContext() with fault %s = %d bytes, %v; want none", algorithm, kind, len(sig), err)
			}
			kms.Heal()
		}
	}
}

// TestMLDSAOpenFaults makes GetPublicKey fail in the format of ML-DSA, which is asked for
// after PEM.
func TestMLDSAOpenFaults(t *testing.T) {
	t.Parallel()
	kms := gcpkmstest.New(t)
	version := create(kms, "pq", mldsaData)
	b := mustOpen(t, plain(kms))

	for _, tt := range []struct {
		kind gcpkmstest.Kind
		want error // nil: one without a sentinel
		text string
	}{
		{gcpkmstest.WrongCRC, signer.ErrUnavailable, "CRC32C of the public key is wrong"},
		{gcpkmstest.NoCRC, signer.ErrUnavailable, "no CRC32C of the public key"},
		{gcpkmstest.Empty, signer.ErrUnavailable, "(3 attempts)"},
		{gcpkmstest.WrongName, signer.ErrUnavailable, "names another key version"},
		{gcpkmstest.AnotherAlg, nil, "the public key is not one for EC_SIGN_P256_SHA256"},
	} {
		kms.Inject(gcpkmstest.Fault{Method: "GetPublicKey", Kind: tt.kind, Skip: 1, Times: -1})
		_, err := b.OpenKey(t.Context(), version)
		if err == nil || !strings.Contains(err.Error(), tt.text) || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("OpenKey() with fault %s = %v, want %v with %q", tt.kind, err, tt.want, tt.text)
		}
		kms.Heal()
	}

	// The public key of another key looks right until it is used.
	kms.Inject(gcpkmstest.Fault{Method: "GetPublicKey", Kind: gcpkmstest.AnotherKey, Skip: 1})
	k, _ := openMLDSA(t, b, version)
	if sig, err := k.SignContext(t.Context(), []byte("m"), crypto.Hash(0)); sig != nil || err == nil || !strings.Contains(err.Error(), "does not verify") {
		t.Errorf("SignContext() = %d bytes, %v; want none", len(sig), err)
	}
}
