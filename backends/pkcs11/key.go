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

// A key is a private or secret key in the token. What callers get embeds it and
// adds the operations that the token allows, see [key.kind].
type key struct {
	backend *Backend
	ref     URI
	public  crypto.PublicKey // a [signer.Secret] for a secret key
	algs    []signer.Alg     // that worked when the key was opened
	may     uses
	always  bool // it wants the PIN for each operation: CKA_ALWAYS_AUTHENTICATE
	tells   bool // its sessions know when they are logged in

	// How to use it: what the probes passed. What is empty it does not do.
	forms     map[signer.Alg]form // to sign
	oaep      map[crypto.Hash]way // to decrypt
	agreement agreement
	wraps     map[signer.WrapForm]wrapping
	seals     bool
	sample    []byte // what a secret key made when it was opened, to know it again

	found atomic.Pointer[handle]
}

// A handle is a CK_OBJECT_HANDLE, good on sessions of the same stamp.
type handle struct {
	object p11.ObjectHandle
	stamp  stamp
}

// Public returns the public half, which was read when the key was opened, or the
// [signer.Secret] that describes a secret key.
func (k *key) Public() crypto.PublicKey { return k.public }

// Algs returns the algorithms that worked when the key was opened.
func (k *key) Algs() []signer.Alg { return slices.Clone(k.algs) }

// OpenKey finds the one private or secret key that ref, a pkcs11: URI, names. It
// reads the public half, and uses the key once in each way that the token lets it,
// to prove that both halves belong together and to see what the token has.
//
// The Key implements those of the interfaces of package signer whose operations
// worked, and always signer.AlgLister.
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
	return k.kind(), nil
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
		return fmt.Errorf("%w: no algorithm of JOSE fits the key: RSA keys need %d bits or more, HMAC keys 32 bytes", signer.ErrUnsupported, signer.MinRSABits)
	}
	if err := k.readUse(s, h); err != nil {
		return err
	}
	t := &trial{session: s, h: h, k: k}
	defer t.end()
	if err := k.prove(t); err != nil {
		return err
	}
	in, err := s.loggedIn()
	k.tells = err == nil && in
	k.found.Store(&handle{h, s.stamp})
	return nil
}

// find returns the handle of the one key that k.ref names.
func (k *key) find(s *session) (p11.ObjectHandle, error) {
	classes := []uint{p11.CKO_PRIVATE_KEY, p11.CKO_SECRET_KEY}
	switch k.ref.Type {
	case TypePrivate:
		classes = classes[:1]
	case TypeSecret:
		classes = classes[1:]
	}
	for _, class := range classes {
		found, err := s.find(k.template(class))
		if err != nil {
			return 0, err
		}
		if len(found) > 0 {
			return one(found, "key", k.ref)
		}
	}
	// A token shows no private objects to strangers.
	if in, err := s.loggedIn(); err != nil {
		return 0, err
	} else if !in {
		return 0, callError("C_FindObjects", p11.Error(p11.CKR_USER_NOT_LOGGED_IN))
	}
	return one(nil, "private or secret key", k.ref)
}

func (k *key) template(class uint) []*p11.Attribute {
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, class)}
	if k.ref.Object != "" {
		template = append(template, p11.NewAttribute(p11.CKA_LABEL, k.ref.Object))
	}
	if k.ref.ID != "" {
		template = append(template, p11.NewAttribute(p11.CKA_ID, []byte(k.ref.ID)))
	}
	return template
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
		out, err := f(s, h.object)
		if err != nil && k.tells {
			err = s.doubt(err)
		}
		return out, err
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
	if err := k.same(s, object, public); err != nil {
		return nil, k.gone(err)
	}
	h := &handle{object, s.stamp}
	k.found.Store(h)
	return h, nil
}

// same returns an error if the key that was found again is not the one that was
// open: it has another public half or, if it is secret, does not give again what
// that one gave.
func (k *key) same(s *session, h p11.ObjectHandle, public crypto.PublicKey) error {
	same := false
	switch was := k.public.(type) {
	case signer.Secret:
		if was == public {
			return k.sameSecret(s, h)
		}
	case interface{ Equal(crypto.PublicKey) bool }:
		same = was.Equal(public)
	}
	if !same {
		return errAnotherKey
	}
	return nil
}

var errAnotherKey = errors.New("another key has its name")

func (k *key) gone(err error) error {
	if lost(err) {
		return err // the pool must see that the session is of no more use
	}
	return fmt.Errorf("%w: pkcs11: %v was open and cannot be found again: %v", signer.ErrUnavailable, k.ref, err) //nolint:errorlint // its sentinel would be the wrong one
}
