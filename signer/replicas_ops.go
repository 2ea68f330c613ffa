package signer

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Public implements [Key]. It is nil if nobody has seen the key.
func (r *Replicas) Public() crypto.PublicKey { return r.c.Public }

// Algs implements [AlgLister].
func (r *Replicas) Algs() []Alg { return slices.Clone(r.c.Algs) }

// Describe implements [Describer]: what the keys of the places say of themselves.
func (r *Replicas) Describe() string {
	var texts []string
	for _, m := range r.members {
		if k := m.key.Load(); k != nil {
			if d, ok := (*k).(Describer); ok {
				texts = append(texts, m.backend+": "+d.Describe())
			}
		}
	}
	return strings.Join(texts, "; ")
}

// Sign implements [crypto.Signer].
func (r *Replicas) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return r.SignContext(context.Background(), digest, opts) //nolint:forbidigo // crypto.Signer has no context
}

// SignContext implements [Signer].
func (r *Replicas) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return replicated(ctx, r, UseSig, func(ctx context.Context, k Signer) ([]byte, error) {
		return k.SignContext(ctx, digest, opts)
	})
}

// SignMessageContext implements [MessageSigner]. Places that take a digest get one.
func (r *Replicas) SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	digest := message
	if hash := opts.HashFunc(); hash != 0 {
		h := hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	return replicated(ctx, r, UseSig, func(ctx context.Context, k Signer) ([]byte, error) {
		if m, ok := k.(MessageSigner); ok {
			return m.SignMessageContext(ctx, message, opts)
		}
		return k.SignContext(ctx, digest, opts)
	})
}

// SignRaw implements [RawSigner]. Each place signs in the way that its key has.
func (r *Replicas) SignRaw(ctx context.Context, alg Alg, digest, message []byte) ([]byte, error) {
	return replicated(ctx, r, UseSig, func(ctx context.Context, k Signer) ([]byte, error) {
		return signRaw(ctx, k, r.c.Public, alg, digest, message)
	})
}

// MACContext implements [MACer].
func (r *Replicas) MACContext(ctx context.Context, message []byte, hash crypto.Hash) ([]byte, error) {
	return replicated(ctx, r, UseSig, func(ctx context.Context, k MACer) ([]byte, error) {
		return k.MACContext(ctx, message, hash)
	})
}

// Decrypt implements [crypto.Decrypter].
func (r *Replicas) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return r.DecryptContext(context.Background(), ciphertext, opts) //nolint:forbidigo // crypto.Decrypter has no context
}

// DecryptContext implements [Decrypter].
func (r *Replicas) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return replicated(ctx, r, UseEnc, func(ctx context.Context, k Decrypter) ([]byte, error) {
		return k.DecryptContext(ctx, ciphertext, opts)
	})
}

// DecryptSessionKeyContext implements [SessionKeyDecrypter].
func (r *Replicas) DecryptSessionKeyContext(ctx context.Context, ciphertext []byte, size int) ([]byte, error) {
	return replicated(ctx, r, UseEnc, func(ctx context.Context, k SessionKeyDecrypter) ([]byte, error) {
		return k.DecryptSessionKeyContext(ctx, ciphertext, size)
	})
}

// HoldsCEK implements [ContentDecrypter]: all places that have joined do, or none.
func (r *Replicas) HoldsCEK(alg Alg) bool {
	for _, m := range r.members {
		if k := m.key.Load(); k != nil {
			return holdsCEK(*k, alg)
		}
	}
	return false
}

func holdsCEK(k Key, alg Alg) bool {
	c, ok := k.(ContentDecrypter)
	return ok && c.HoldsCEK(alg)
}

// DecryptContent implements [ContentDecrypter].
func (r *Replicas) DecryptContent(ctx context.Context, alg Alg, c Content) ([]byte, error) {
	return replicated(ctx, r, UseEnc, func(ctx context.Context, k ContentDecrypter) ([]byte, error) {
		return k.DecryptContent(ctx, alg, c)
	})
}

// AgreeContext implements [Agreer].
func (r *Replicas) AgreeContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	return replicated(ctx, r, UseEnc, func(ctx context.Context, k Agreer) ([]byte, error) {
		return k.AgreeContext(ctx, peer)
	})
}

// WrapContext implements [Wrapper].
func (r *Replicas) WrapContext(ctx context.Context, form WrapForm, key []byte) ([]byte, error) {
	return replicated(ctx, r, UseEnc, func(ctx context.Context, k Wrapper) ([]byte, error) {
		return k.WrapContext(ctx, form, key)
	})
}

// UnwrapContext implements [Wrapper].
func (r *Replicas) UnwrapContext(ctx context.Context, form WrapForm, wrapped []byte) ([]byte, error) {
	return replicated(ctx, r, UseEnc, func(ctx context.Context, k Wrapper) ([]byte, error) {
		return k.UnwrapContext(ctx, form, wrapped)
	})
}

// SealContext implements [AEAD].
func (r *Replicas) SealContext(ctx context.Context, plaintext, aad []byte) (iv, sealed []byte, err error) {
	type pair struct{ iv, sealed []byte }
	p, err := replicated(ctx, r, UseEnc, func(ctx context.Context, k AEAD) (p pair, err error) {
		p.iv, p.sealed, err = k.SealContext(ctx, plaintext, aad)
		return p, err
	})
	return p.iv, p.sealed, err
}

// OpenContext implements [AEAD].
func (r *Replicas) OpenContext(ctx context.Context, iv, sealed, aad []byte) ([]byte, error) {
	return replicated(ctx, r, UseEnc, func(ctx context.Context, k AEAD) ([]byte, error) {
		return k.OpenContext(ctx, iv, sealed, aad)
	})
}

// EncryptBlob implements [BlobCipher].
func (r *Replicas) EncryptBlob(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	return replicated(ctx, r, UseEnc, func(ctx context.Context, k BlobCipher) ([]byte, error) {
		return k.EncryptBlob(ctx, plaintext, aad)
	})
}

// DecryptBlob implements [BlobCipher].
func (r *Replicas) DecryptBlob(ctx context.Context, blob, aad []byte) ([]byte, error) {
	return replicated(ctx, r, UseEnc, func(ctx context.Context, k BlobCipher) ([]byte, error) {
		return k.DecryptBlob(ctx, blob, aad)
	})
}

// alike compares a key with those that have joined: it does what they do, and a
// secret is the same one.
func (r *Replicas) alike(ctx context.Context, key Key) error {
	for _, alg := range r.c.Algs {
		if holdsCEK(key, alg) != r.HoldsCEK(alg) {
			return fmt.Errorf("%w: %s: one place gives the CEK away and another holds on to it", ErrUnsupported, alg)
		}
	}
	if _, secret := r.c.Public.(Secret); !secret {
		return nil // equal public halves are enough
	}
	challenge := make([]byte, 32)
	rand.Read(challenge)
	same, err := r.sameSecret(ctx, key, challenge)
	switch {
	case errors.Is(err, ErrDecrypt), err == nil && !same:
		return errOtherKey
	case err != nil:
		return fmt.Errorf("compare with the other places: %w", err)
	}
	return nil
}

// sameSecret has key and the places that have joined do the same to challenge, or
// one undo what the other did.
func (r *Replicas) sameSecret(ctx context.Context, key Key, challenge []byte) (bool, error) {
	var got []byte
	var err error
	want := challenge
	switch alg := r.c.Algs[0]; alg.Family() { //nolint:exhaustive // the others are of key pairs
	case FamilyHMAC:
		if want, err = r.MACContext(ctx, challenge, alg.Hash()); err == nil {
			got, err = key.(MACer).MACContext(ctx, challenge, alg.Hash())
		}
	case FamilyAESKW:
		var wrapped []byte
		if wrapped, err = r.WrapContext(ctx, WrapRFC3394, challenge); err == nil {
			got, err = key.(Wrapper).UnwrapContext(ctx, WrapRFC3394, wrapped)
		}
	case FamilyGCMKW, FamilyDir:
		var iv, sealed []byte
		if iv, sealed, err = r.SealContext(ctx, challenge, nil); err == nil {
			got, err = key.(AEAD).OpenContext(ctx, iv, sealed, nil)
		}
	default:
		return false, fmt.Errorf("%w: no way to compare two keys for %s", ErrUnsupported, alg)
	}
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1, err
}
