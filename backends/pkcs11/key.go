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

	"signetd/backends/pkcs11/cryptoki"
	"signetd/backends/pkcs11/pool"
	"signetd/signer"
)

// A key is a private or secret key in the token. What callers get embeds it and adds the
// operations that worked when it was opened, see [key.withCapabilities]. All members but
// found are set before OpenKey returns, and never again.
type key struct {
	backend *Backend
	ref     URI

	public crypto.PublicKey // a [signer.Secret] for a secret key
	algs   []signer.Alg     // that worked
	may    uses             // what its attributes allow

	wantsPIN   bool // for each operation: CKA_ALWAYS_AUTHENTICATE
	tellsLogin bool // its sessions know whether the user is logged in

	// How the token does each operation, as the probes found. What is empty it does not do.
	signs  map[signer.Alg]signStrategy
	opens  map[crypto.Hash]oaepStrategy
	agrees agreeStrategy
	wraps  map[signer.WrapForm]wrapStrategy
	seals  bool

	// sameSecret returns an error if the secret key h is not the one that was opened. It
	// is nil for private keys.
	sameSecret func(s *session, h p11.ObjectHandle) error

	found atomic.Pointer[handle] // where the key was last found
}

// uses are what the attributes of a key allow.
type uses struct{ sign, decrypt, encrypt, unwrap, wrap, derive bool }

// A handle is a CK_OBJECT_HANDLE, good on sessions of the same stamp.
type handle struct {
	object p11.ObjectHandle
	stamp  stamp
}

var _ signer.Prover = (*key)(nil)

// Public returns the public half, which was read when the key was opened, or the
// [signer.Secret] that describes a secret key.
func (k *key) Public() crypto.PublicKey { return k.public }

// Algs returns the algorithms that worked when the key was opened.
func (k *key) Algs() []signer.Alg { return slices.Clone(k.algs) }

// Proven reports whether OpenKey has used the key with alg. It uses all algorithms that
// decrypt RSA-OAEP, but only the first of each family that signs.
func (k *key) Proven(alg signer.Alg) bool {
	switch family := alg.Family(); family { //nolint:exhaustive // the others are proven again
	case signer.FamilyOAEP:
		return slices.Contains(k.algs, alg)
	case signer.FamilyPKCS1v15, signer.FamilyPSS, signer.FamilyECDSA:
		first := slices.IndexFunc(k.algs, func(a signer.Alg) bool { return a.Family() == family })
		return first >= 0 && k.algs[first] == alg
	}
	return false
}

// addAlgs adds the algorithms of a family that fit k.
func (k *key) addAlgs(f signer.Family) {
	for _, alg := range signer.Algs(k.public) {
		if alg.Family() == f {
			k.algs = append(k.algs, alg)
		}
	}
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
		found, err := s.Find(k.template(class))
		switch {
		case err != nil:
			return 0, err
		case len(found) == 1:
			return found[0], nil
		case len(found) == cryptoki.MaxFound:
			return 0, fmt.Errorf("%w: the token has %d keys or more that match %v: give the id, too", signer.ErrInvalid, len(found), k.ref)
		case len(found) > 1:
			return 0, fmt.Errorf("%w: the token has %d keys that match %v: give the id, too", signer.ErrInvalid, len(found), k.ref)
		}
	}

	// A token hides private objects while the user is not logged in.
	in, err := s.LoggedIn()
	if err != nil {
		return 0, err
	}
	if !in {
		return 0, cryptoki.NotLoggedIn("C_FindObjects")
	}
	return 0, fmt.Errorf("%w: the token has no private or secret key that matches %v", signer.ErrNotFound, k.ref)
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

// onSession runs f on a session of b. If the session, the login or the token turns out to
// be lost, it has that repaired and runs f once more, so f must be something that may
// happen twice.
func onSession[T any](ctx context.Context, b *Backend, f func(*session) (T, error)) (T, error) {
	again := false
	for patient := time.Now().Add(patience); ; {
		if err := b.healer.admit(ctx); err != nil {
			var zero T
			return zero, err
		}

		repairs := b.healer.repairs()
		v, err := pool.Do(ctx, b.sessions, func(s *session) (v T, err error) {
			if !b.module.TryEnter() {
				return v, errRestarting
			}
			defer b.module.Leave()
			if !b.healer.current(s) {
				return v, errRestarting
			}
			return f(s)
		})

		switch {
		case err == nil:
			return v, nil
		case errors.Is(err, errRestarting) && time.Now().Before(patient) && hiccup(ctx):
			// Another backend restarts the module. The next admit begins our own repair,
			// which finds our keys again.
		case !b.healer.retry(ctx, err, repairs, again):
			return v, err
		default:
			again = true
		}
	}
}

// use runs f with the key's handle on a session of the backend. It may run f twice, see
// [onSession].
func (k *key) use(ctx context.Context, f func(*session, p11.ObjectHandle) ([]byte, error)) ([]byte, error) {
	return onSession(ctx, k.backend, func(s *session) ([]byte, error) {
		h := k.found.Load()
		if h == nil || h.stamp != s.stamp {
			var err error
			if h, err = k.findAgain(s); err != nil {
				return nil, err
			}
		}
		out, err := f(s, h.object)
		if err != nil && k.tellsLogin {
			err = s.Doubt(err)
		}
		return out, err
	})
}

// withPIN runs f, which uses the key once, with the PIN if the key wants it.
func (k *key) withPIN(f func(pin []byte) (int, error)) (int, error) {
	if !k.wantsPIN {
		return f(nil)
	}
	return k.backend.login.ShowPIN(k.backend.readCredential, f)
}

// exactly returns the n bytes that a token wrote to out, which must be want.
func exactly(out []byte, n, want int) ([]byte, error) {
	if n != want {
		clear(out)
		return nil, fmt.Errorf("%w: pkcs11: the token answered %d bytes, not %d", signer.ErrUnavailable, n, want)
	}
	return out[:n], nil
}

// padLeft returns the n bytes that a token wrote to out as a number as long as out: some
// tokens drop leading zeros. It wipes out.
func padLeft(out []byte, n int) []byte {
	padded := make([]byte, len(out))
	copy(padded[len(out)-n:], out[:n])
	clear(out)
	return padded
}

// errAnotherKey means that the key that was found again is not the one that was open.
var errAnotherKey = errors.New("another key has its name")

// findAgain finds a key that was open before, and makes sure that it still is the same
// one. An error wraps ErrUnavailable and no other sentinel: that the key has gone is not
// the mistake of the request.
func (k *key) findAgain(s *session) (*handle, error) {
	object, err := k.find(s)
	if err == nil {
		err = k.same(s, object)
	}
	switch {
	case cryptoki.Lost(err):
		return nil, err // the pool must see that the session is lost
	case err != nil:
		return nil, fmt.Errorf("%w: pkcs11: %v was open and cannot be found again: %v", signer.ErrUnavailable, k.ref, err) //nolint:errorlint // its sentinel would be the wrong one
	}
	h := &handle{object, s.stamp}
	k.found.Store(h)
	return h, nil
}

// same returns an error if the key h is not the one that was open: it has another public
// half or, if it is secret, does not make again what that one made.
func (k *key) same(s *session, h p11.ObjectHandle) error {
	public, err := readPublic(s, h)
	if err != nil {
		return err
	}
	switch was := k.public.(type) {
	case signer.Secret:
		if was == public {
			return k.sameSecret(s, h)
		}
	case interface{ Equal(crypto.PublicKey) bool }:
		if was.Equal(public) {
			return nil
		}
	}
	return errAnotherKey
}

// undoes returns a check that a secret key is the one that was opened: undo, which opens
// what that key made, works with no other. There is no public half to compare, and the
// check values of tokens (CKA_CHECK_VALUE) differ or are absent.
func undoes(undo func(*session, p11.ObjectHandle) ([]byte, error)) func(*session, p11.ObjectHandle) error {
	return func(s *session, h p11.ObjectHandle) error {
		got, err := undo(s, h)
		clear(got)
		if errors.Is(err, signer.ErrDecrypt) {
			return errAnotherKey
		}
		return err
	}
}
