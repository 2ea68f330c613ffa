package cloud_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	k1 "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"signetd/backends/cloud"
	"signetd/signer"
	"signetd/signer/signertest"
)

func TestPublicKey(t *testing.T) {
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	koblitz, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}

	for name, pub := range map[string]crypto.PublicKey{"RSA": &rs.PublicKey, "P-384": &ec.PublicKey, "Ed25519": ed, "secp256k1": koblitz.PubKey().ToECDSA()} {
		t.Run(name, func(t *testing.T) {
			der, err := signertest.MarshalPublicKey(pub)
			if err != nil {
				t.Fatal(err)
			}
			got, err := cloud.ParsePublicKey(der)
			if err != nil || !got.(interface{ Equal(crypto.PublicKey) bool }).Equal(pub) {
				t.Errorf("ParsePublicKey(MarshalPublicKey()) = %v, %v", got, err)
			}
			if _, err := cloud.ParsePublicKey(der[:len(der)-1]); err == nil {
				t.Error("ParsePublicKey(cut) = nil")
			}
		})
	}
}

// TestOpenSSLKey reads a key that another implementation wrote.
func TestOpenSSLKey(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	key, err := exec.CommandContext(t.Context(), openssl, "ecparam", "-name", "secp256k1", "-genkey", "-noout").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), openssl, "ec", "-pubout")
	cmd.Stdin = strings.NewReader(string(key))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(out)
	pub, err := cloud.ParsePublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := signer.ES256K.Fits(pub); err != nil {
		t.Error(err)
	}
	der, err := signertest.MarshalPublicKey(pub)
	if err != nil || string(der) != string(block.Bytes) {
		t.Errorf("MarshalPublicKey() = %x, %v; openssl has %x", der, err, block.Bytes)
	}
}

func TestVerify(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	koblitz, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))

	sign := func(key crypto.Signer, opts crypto.SignerOpts) []byte {
		sig, err := key.Sign(rand.Reader, digest[:], opts)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}

	tests := []struct {
		alg  signer.Alg
		pub  crypto.PublicKey
		sig  []byte
		want bool
	}{
		{signer.ES256, &ec.PublicKey, sign(ec, crypto.SHA256), true},
		{signer.ES256K, koblitz.PubKey().ToECDSA(), k1.Sign(koblitz, digest[:]).Serialize(), true},
		{signer.RS256, &rs.PublicKey, sign(rs, crypto.SHA256), true},
		{signer.PS256, &rs.PublicKey, sign(rs, signer.PS256.SignerOpts()), true},
		{signer.EdDSA, ed.Public(), sign(ed, crypto.Hash(0)), true},
		{signer.PS256, &rs.PublicKey, sign(rs, &rsa.PSSOptions{SaltLength: 222, Hash: crypto.SHA256}), false}, // the longest salt
		{signer.PS256, &rs.PublicKey, sign(rs, crypto.SHA256), false},
		{signer.ES256, &ec.PublicKey, sign(rs, crypto.SHA256), false},
		{signer.ES256, &ec.PublicKey, nil, false},
		{signer.EdDSA, ed.Public(), nil, false},
	}

	for i, tt := range tests {
		if err := cloud.Verify(tt.pub, tt.alg, digest[:], tt.sig); (err == nil) != tt.want || !tt.want && !errors.Is(err, signer.ErrVerify) {
			t.Errorf("%d: Verify(%s) = %v, want success %t", i, tt.alg, err, tt.want)
		}
		if tt.want {
			tt.sig[len(tt.sig)-1] ^= 1
			if cloud.Verify(tt.pub, tt.alg, digest[:], tt.sig) == nil {
				t.Errorf("%d: Verify(%s, tampered) = nil", i, tt.alg)
			}
		}
	}
}
