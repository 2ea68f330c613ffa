package signer

import (
	"context"
	"crypto"
)

// A Key is one version of a private key held by a [Backend].
type Key interface {
	// Public returns the public half, an *rsa.PublicKey or *ecdsa.PublicKey. It
	// was read when the key was opened: no I/O, no failure.
	Public() crypto.PublicKey
}

// A Signer is a [Key] that signs. It is safe for concurrent use.
type Signer interface {
	Key
	crypto.Signer
	// SignContext is [crypto.Signer.Sign] with a deadline and without a source of
	// randomness, which the hardware brings along. opts is a [crypto.Hash] for
	// PKCS #1 v1.5 and ECDSA, an *rsa.PSSOptions for PSS. The result is what
	// crypto.Signer promises: ASN.1 DER for ECDSA, as long as the modulus for RSA.
	//
	// If ctx ends first it returns ctx.Err() at once; the session is not used
	// again until the hardware call has returned. Other errors: ErrInvalid for a
	// digest of the wrong length, ErrUnsupported for opts that do not fit the
	// key, ErrUnavailable when the backend is closed or gone.
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

// A Decrypter is a [Key] that decrypts with RSA-OAEP. It is safe for concurrent
// use.
type Decrypter interface {
	Key
	crypto.Decrypter
	// DecryptContext decrypts a ciphertext that is as long as the modulus. opts is
	// an *rsa.OAEPOptions without a label, whose MGF hash is the OAEP hash.
	//
	// A ciphertext that does not decrypt gives ErrDecrypt and nothing else: the
	// reason is an oracle. Errors that do not depend on the ciphertext's content
	// are as for [Signer.SignContext].
	DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error)
}

// An AlgLister is a [Key] that cannot do every algorithm that fits its public
// half, for lack of a mechanism in its token or service. A Key without it can.
type AlgLister interface {
	// Algs returns what the key was found able to do when it was opened.
	Algs() []Alg
}

// A Backend opens keys in one place: a PKCS#11 token, or one KMS account and
// region. It is safe for concurrent use.
type Backend interface {
	// OpenKey finds the one key version that ref names; no match (ErrNotFound) or
	// two matches (ErrInvalid) is an error. The form of ref is the backend's own.
	OpenKey(ctx context.Context, ref string) (Key, error)
	// Ping makes one cheap round trip and uses no private key.
	Ping(ctx context.Context) error
	// Close waits for what is in flight, then logs out. The backend's keys answer
	// ErrUnavailable from then on.
	Close() error
}
