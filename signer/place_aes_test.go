package signer_test

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"signetd/signer"
)

// An aesKey is an AES key in memory that wraps and seals.
type aesKey struct{ secret []byte }

func (k aesKey) Public() crypto.PublicKey {
	return signer.Secret{Type: signer.SecretAES, Size: len(k.secret)}
}

func (k aesKey) block() cipher.Block {
	b, err := aes.NewCipher(k.secret)
	if err != nil {
		panic(err)
	}
	return b
}

func (k aesKey) gcm() cipher.AEAD {
	g, err := cipher.NewGCM(k.block())
	if err != nil {
		panic(err)
	}
	return g
}

func (k aesKey) WrapContext(_ context.Context, form signer.WrapForm, key []byte) ([]byte, error) {
	return signer.WrapBlocks(form, key, func(b []byte) error { k.block().Encrypt(b, b); return nil })
}

func (k aesKey) UnwrapContext(_ context.Context, form signer.WrapForm, wrapped []byte) ([]byte, error) {
	return signer.UnwrapBlocks(form, wrapped, func(b []byte) error { k.block().Decrypt(b, b); return nil })
}

func (k aesKey) SealContext(_ context.Context, plaintext, aad []byte) (iv, sealed []byte, err error) {
	iv = make([]byte, 12)
	rand.Read(iv)
	return iv, k.gcm().Seal(nil, iv, plaintext, aad), nil
}

func (k aesKey) OpenContext(_ context.Context, iv, sealed, aad []byte) ([]byte, error) {
	out, err := k.gcm().Open(nil, iv, sealed, aad)
	if err != nil {
		return nil, signer.ErrDecrypt
	}
	return out, nil
}

// Two AES keys are compared by having one undo what the other did, for each family of
// algorithms. As places of one version they wrap and unwrap.
func TestPlacesAES(t *testing.T) {
	secret, other := make([]byte, 32), make([]byte, 32)
	rand.Read(secret)
	rand.Read(other)
	for _, alg := range []signer.Alg{signer.A256KW, signer.A256GCMKW, signer.Dir} {
		algs := []signer.Alg{alg}
		v, err := signer.NewVersion(aesKey{secret}, signer.VersionConfig{KID: "k", Algs: algs, Places: make([]signer.PlaceConfig, 2)})
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		if err := v.Join(t.Context(), 1, aesKey{other}); !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("%s: Join() of another secret = %v, want ErrInvalid", alg, err)
		}
		if err := v.Join(t.Context(), 1, aesKey{secret}); err != nil {
			t.Errorf("%s: Join() of the same secret = %v", alg, err)
		}

		for range 4 { // each place wraps, and each unwraps
			if err := v.Prove(t.Context()); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
		}
	}
}

// A downKey is an aesKey that a test can make be away.
type downKey struct {
	aesKey
	down *atomic.Bool
}

func (k downKey) UnwrapContext(ctx context.Context, form signer.WrapForm, wrapped []byte) ([]byte, error) {
	if k.down.Load() {
		return nil, signer.ErrUnavailable
	}
	return k.aesKey.UnwrapContext(ctx, form, wrapped)
}

// A ciphertext that does not decrypt says nothing about a place. However many of them come,
// the first request that decrypts finds out that the place is back.
func TestPlacesBackDespiteJunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := aesKey{make([]byte, 32)}
		var down atomic.Bool
		v, err := signer.NewVersion(downKey{secret, &down}, signer.VersionConfig{KID: "k", Algs: []signer.Alg{signer.A256KW}, Places: make([]signer.PlaceConfig, 2)})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Join(t.Context(), 1, secret); err != nil {
			t.Fatal(err)
		}
		wrapped, err := v.WrapKey(t.Context(), signer.A256KW, signer.WrapRFC3394, make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		unwrap := func(wrapped []byte) error {
			_, err := v.UnwrapKey(t.Context(), signer.A256KW, signer.WrapRFC3394, wrapped)
			return err
		}

		down.Store(true)
		for range 4 {
			if err := unwrap(wrapped); err != nil {
				t.Fatal(err)
			}
		}
		if p := v.Places(); p[0].State != signer.StateAway {
			t.Fatalf("Places() = %v, want the first away", p)
		}

		down.Store(false)
		time.Sleep(time.Second) // longer than the first pauses
		for range 10 {
			if err := unwrap(make([]byte, 40)); !errors.Is(err, signer.ErrDecrypt) {
				t.Fatal(err)
			}
		}
		if err := unwrap(wrapped); err != nil {
			t.Fatal(err)
		}
		if p := v.Places(); p[0].State != signer.StateOK {
			t.Errorf("Places() = %v, want the first back", p)
		}
	})
}
