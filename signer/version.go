package signer

import (
	"crypto"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// A VersionConfig says what [NewVersion] makes of a key.
type VersionConfig struct {
	// KID is the key's "kid". Optional for a key pair: the RFC 7638 thumbprint.
	KID string
	// Algs are the algorithms that the key may be used with: at least one, all of
	// one use. The first is the default.
	Algs []Alg
	// NotBefore is when the version becomes the active one. Optional: always was.
	NotBefore time.Time
	// SkipVerify leaves out the verification of each signature before it leaves.
	SkipVerify bool
	// Backend is the name of the backend that holds the key, for reports.
	Backend string
	// Observe is called after each use of the private key, with how long the
	// backend took. A ciphertext that does not decrypt is no error here: who sees
	// what is observed must not tell it from one that does. Optional.
	Observe func(use Use, took time.Duration, err error)
	// Changed is called when the backend goes away, with the error of the request
	// that found out, and with nil when one finds it back. Optional. For a key that
	// is [Replicas], theirs are called instead of both.
	Changed func(err error)
}

// A Version is one key version: one key pair in one backend, with its kid and
// the algorithms that it is pinned to. All that changes of it is whether its backend
// is away, how it verifies what it signs, and which protected headers it remembers. It
// is safe for concurrent use.
type Version struct {
	key       Key
	kid       string
	algs      []Alg
	notBefore time.Time
	verify    bool
	backend   string
	observe   func(use Use, took time.Duration, err error)
	changed   func(err error)
	health    Presence // unused for Replicas, which have that of each place
	own       ownP256
	headers   atomic.Pointer[[]protectedHeader]
}

// NewVersion returns the version that c describes. Each algorithm must be one
// that key can do; the errors are ErrInvalid and ErrUnsupported. If key is [Replicas]
// that nobody has seen, the kid is that of c or empty, and every operation of the
// version is ErrUnavailable.
func NewVersion(key Key, c VersionConfig) (*Version, error) {
	if len(c.Algs) == 0 {
		return nil, fmt.Errorf("%w: no algorithms", ErrInvalid)
	}
	for _, alg := range c.Algs {
		if err := checkAlg(key, alg); err != nil {
			return nil, err
		}
		if err := CanVerify(key.Public()); err != nil && !c.SkipVerify {
			return nil, fmt.Errorf("%w, and nothing is signed that is not verified", err)
		}
		if alg.Use() != c.Algs[0].Use() {
			return nil, fmt.Errorf("%w: %s and %s: a key either signs or decrypts", ErrInvalid, c.Algs[0], alg)
		}
	}
	if c.KID == "" {
		if c.Algs[0].Symmetric() {
			return nil, fmt.Errorf("%w: a symmetric key has no thumbprint: give it a kid", ErrInvalid)
		}
		if r, ok := key.(*Replicas); ok && r.Public() == nil {
			return newVersion(key, c), nil
		}
		var err error
		if c.KID, err = Thumbprint(key.Public()); err != nil {
			return nil, err
		}
	}
	return newVersion(key, c), nil
}

func newVersion(key Key, c VersionConfig) *Version {
	if c.Observe == nil {
		c.Observe = func(Use, time.Duration, error) {}
	}
	if c.Changed == nil {
		c.Changed = func(error) {}
	}
	return &Version{
		key: key, kid: c.KID, algs: slices.Clone(c.Algs), notBefore: c.NotBefore,
		verify: !c.SkipVerify, backend: c.Backend, observe: c.Observe, changed: c.Changed,
	}
}

func checkAlg(key Key, alg Alg) error {
	if r, ok := key.(*Replicas); ok && r.Public() == nil {
		if alg.Family() == 0 {
			return fmt.Errorf("%w: unknown algorithm %.32q", ErrUnsupported, string(alg))
		}
		return nil // it is checked when the first place joins
	}
	if err := alg.Fits(key.Public()); err != nil {
		return err
	}
	if !can(key, alg.Family()) {
		what := "sign"
		if alg.Use() == UseEnc {
			what = "decrypt"
		}
		return fmt.Errorf("%w: %s: the backend does not let this key %s", ErrUnsupported, alg, what)
	}
	if l, ok := key.(AlgLister); ok && alg != RSA15 && !slices.Contains(l.Algs(), alg) {
		if e, ok := key.(AlgExplainer); ok {
			return fmt.Errorf("%w: %s: %s", ErrUnsupported, alg, e.Lacks(alg))
		}
		return fmt.Errorf("%w: %s: the backend has no mechanism for it (it has %v)", ErrUnsupported, alg, l.Algs())
	}
	return nil
}

// can reports whether key has the operation that a family of algorithms needs.
func can(key Key, f Family) (ok bool) {
	if r, ok := key.(*Replicas); ok { // which has the methods of all families
		return r.can(f)
	}
	switch f {
	case FamilyPKCS1v15, FamilyPSS, FamilyECDSA, FamilyEdDSA, FamilyMLDSA:
		_, ok = key.(Signer)
	case FamilyHMAC:
		_, ok = key.(MACer)
	case FamilyOAEP:
		_, ok = key.(Decrypter)
	case FamilyRSA15:
		_, ok = key.(SessionKeyDecrypter)
	case FamilyECDH:
		_, ok = key.(Agreer)
	case FamilyAESKW:
		_, ok = key.(Wrapper)
	case FamilyGCMKW, FamilyDir:
		_, ok = key.(AEAD)
	}
	return ok
}

// Public returns the public half of v's key, or the [Secret] that describes it, or
// nil if nobody has seen it.
func (v *Version) Public() crypto.PublicKey { return v.key.Public() }

// Describe returns what v's key says of itself to operators, or "" if it says
// nothing; see [Describer].
func (v *Version) Describe() string {
	if d, ok := v.key.(Describer); ok {
		return d.Describe()
	}
	return ""
}

// Symmetric reports whether v's key has no public half.
func (v *Version) Symmetric() bool { return v.algs[0].Symmetric() }

// KID returns the "kid" of v. It is empty for a version that nobody has seen and
// whose config names none.
func (v *Version) KID() string { return v.kid }

// Use returns what v is for.
func (v *Version) Use() Use { return v.algs[0].Use() }

// Algs returns the algorithms that v is pinned to, the default first.
func (v *Version) Algs() []Alg { return slices.Clone(v.algs) }

// Does reports whether v is pinned to alg, among others perhaps.
func (v *Version) Does(alg Alg) bool { return slices.Contains(v.algs, alg) }

// NotBefore returns when v becomes active; the zero time means always.
func (v *Version) NotBefore() time.Time { return v.notBefore }

// Backend returns the name of the backend that holds v: the first, if several do.
func (v *Version) Backend() string { return v.backend }

// Alg returns the algorithm to use for a request that asks for want, or for
// none in particular if want is empty. It is ErrUnsupported to ask for an
// algorithm that the key does not list.
func (v *Version) Alg(want Alg) (Alg, error) {
	if want == "" {
		return v.algs[0], nil
	}
	if !slices.Contains(v.algs, want) {
		return "", fmt.Errorf("%w: the key does %v, not %.32q", ErrUnsupported, v.algs, string(want))
	}
	return want, nil
}
