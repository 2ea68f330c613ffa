//go:build cgo

package pkcs11

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// A key is a private key in the token. What callers get embeds it and adds the
// operations that the token allows: [signKey], [decryptKey] or [dualKey].
type key struct {
	backend *Backend
	ref     URI
	public  crypto.PublicKey
	algs    []signer.Alg
	signs   bool
	opens   bool
	always  bool                // it wants the PIN for each operation: CKA_ALWAYS_AUTHENTICATE
	oaep    map[crypto.Hash]way // how to decrypt; the keys are what the probe passed

	found atomic.Pointer[handle]
}

// A handle is a CK_OBJECT_HANDLE, good on sessions of the same stamp.
type handle struct {
	object p11.ObjectHandle
	stamp  stamp
}

// Public returns the public half, which was read when the key was opened.
func (k *key) Public() crypto.PublicKey { return k.public }

// Algs returns the algorithms that worked when the key was opened.
func (k *key) Algs() []signer.Alg { return slices.Clone(k.algs) }

// A signKey has CKA_SIGN, a decryptKey CKA_DECRYPT and a dualKey both.
type (
	signKey struct {
		*key
		signing
	}
	decryptKey struct {
		*key
		opening
	}
	dualKey struct {
		*key
		signing
		opening
	}
)

var (
	_ signer.Signer    = signKey{}
	_ signer.Decrypter = decryptKey{}
	_ signer.Signer    = dualKey{}
	_ signer.Decrypter = dualKey{}
	_ signer.AlgLister = dualKey{}
)

// OpenKey finds the one private key that ref, a pkcs11: URI, names. It reads the
// public half, and signs or decrypts once with each way that the key has, to
// prove that both halves belong together.
//
// The Key is a signer.Signer if the token lets it sign, a signer.Decrypter if
// the token lets it decrypt, and always a signer.AlgLister.
func (b *Backend) OpenKey(ctx context.Context, ref string) (signer.Key, error) {
	u, err := ParseURI(ref)
	if err != nil {
		return nil, err
	}
	if u.Token != "" && u.Token != b.id.label || u.Serial != "" && u.Serial != b.id.serial {
		return nil, fmt.Errorf("%w: %v is not in token %q with serial %q, which this backend has open", signer.ErrInvalid, u, b.id.label, b.id.serial)
	}
	k, err := try(ctx, b, func(s *session) (*key, error) {
		k := &key{backend: b, ref: u}
		return k, k.open(s)
	})
	if err != nil {
		return nil, fmt.Errorf("pkcs11: open %v: %w", u, err)
	}
	b.healer.add(k)
	switch {
	case k.signs && k.opens:
		return dualKey{k, signing{k}, opening{k}}, nil
	case k.signs:
		return signKey{k, signing{k}}, nil
	default:
		return decryptKey{k, opening{k}}, nil
	}
}

// open finds the key, reads what it is, and proves it.
func (k *key) open(s *session) error {
	h, err := k.find(s)
	if err != nil {
		return err
	}
	if k.public, err = readPublic(s, h); err != nil {
		return err
	}
	if len(signer.Algs(k.public)) == 0 {
		return fmt.Errorf("%w: no algorithm of JOSE fits the key: RSA keys need %d bits or more", signer.ErrUnsupported, signer.MinRSABits)
	}
	if err := k.readUse(s, h); err != nil {
		return err
	}
	if k.signs {
		if err := k.proveSigning(s, h); err != nil {
			return err
		}
	}
	if k.opens {
		err := k.proveDecryption(s, h)
		if k.signs && errors.Is(err, signer.ErrUnsupported) {
			err, k.opens = nil, false // it still signs
		}
		if err != nil {
			return err
		}
	}
	k.found.Store(&handle{h, s.stamp})
	return nil
}

// find returns the handle of the private key that k.ref names.
func (k *key) find(s *session) (p11.ObjectHandle, error) {
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY)}
	if k.ref.Object != "" {
		template = append(template, p11.NewAttribute(p11.CKA_LABEL, k.ref.Object))
	}
	if k.ref.ID != "" {
		template = append(template, p11.NewAttribute(p11.CKA_ID, []byte(k.ref.ID)))
	}
	found, err := s.find(template)
	if err != nil {
		return 0, err
	}
	if len(found) == 0 { // a token shows no private keys to strangers
		if in, err := s.loggedIn(); err != nil {
			return 0, err
		} else if !in {
			return 0, callError("C_FindObjects", p11.Error(p11.CKR_USER_NOT_LOGGED_IN))
		}
	}
	return one(found, "private key", k.ref)
}

// readUse reads what the token lets the key do.
func (k *key) readUse(s *session, h p11.ObjectHandle) error {
	var err error
	if k.signs, err = s.flag(h, p11.CKA_SIGN); err != nil {
		return err
	}
	if k.opens, err = s.flag(h, p11.CKA_DECRYPT); err != nil {
		return err
	}
	k.opens = k.opens && isRSA(k.public)
	k.always, err = s.flag(h, p11.CKA_ALWAYS_AUTHENTICATE)
	switch {
	case err != nil:
		return err
	case !k.signs && !k.opens:
		return fmt.Errorf("%w: the token lets the key neither sign (CKA_SIGN) nor decrypt (CKA_DECRYPT)", signer.ErrUnsupported)
	}
	return nil
}

// withPIN runs f, which uses the key once, with the PIN if the key wants it.
func (k *key) withPIN(f func(pin []byte) (int, error)) (int, error) {
	if !k.always {
		return f(nil)
	}
	b := k.backend
	return b.module.showPIN(b.login, b.id, b.readCredential, f)
}

// try runs f on a session of b. If the session, the login or the token turns out
// to be lost it has that repaired and runs f once more, so f must be something
// that may happen twice.
func try[T any](ctx context.Context, b *Backend, f func(*session) (T, error)) (T, error) {
	last := false
	for patient := time.Now().Add(patience); ; {
		if err := b.healer.admit(ctx); err != nil {
			var zero T
			return zero, err
		}
		epoch := b.healer.epoch()
		v, err := do(ctx, b.sessions, func(s *session) (v T, err error) {
			err = b.inside(func() error {
				if !b.healer.good(s) {
					return errRestarting
				}
				v, err = f(s)
				return err
			})
			return v, err
		})
		switch {
		case err == nil:
			return v, nil
		case errors.Is(err, errRestarting) && time.Now().Before(patient) && breathe(ctx):
			// Another backend needed it. Admit has our own repair follow.
		case !b.healer.again(ctx, err, epoch, last):
			return v, err
		default:
			last = true
		}
	}
}

// use runs f with the key's handle on a session of the backend.
func (k *key) use(ctx context.Context, f func(*session, p11.ObjectHandle) ([]byte, error)) ([]byte, error) {
	return try(ctx, k.backend, func(s *session) ([]byte, error) {
		h := k.found.Load()
		if h == nil || h.stamp != s.stamp {
			var err error
			if h, err = k.findAgain(s); err != nil {
				return nil, err
			}
		}
		return f(s, h.object)
	})
}

// findAgain finds a key that was open before, and makes sure that it still is
// the same one. Errors wrap ErrUnavailable and no other sentinel: a key that
// was there and is not is no mistake of whoever uses it.
func (k *key) findAgain(s *session) (*handle, error) {
	object, err := k.find(s)
	if err != nil {
		return nil, k.gone(err)
	}
	public, err := readPublic(s, object)
	if err != nil {
		return nil, k.gone(err)
	}
	if same, ok := k.public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !same.Equal(public) {
		return nil, k.gone(errors.New("another key has its name"))
	}
	h := &handle{object, s.stamp}
	k.found.Store(h)
	return h, nil
}

func (k *key) gone(err error) error {
	if lost(err) {
		return err // the pool must see that the session is of no more use
	}
	return fmt.Errorf("%w: pkcs11: %v was open and cannot be found again: %v", signer.ErrUnavailable, k.ref, err) //nolint:errorlint // its sentinel would be the wrong one
}
