package signer

import (
	"crypto"
	"crypto/ecdsa"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A VersionConfig describes a version to [NewVersion].
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
	// VerifyES256 returns what verifies the ES256 signatures of pub in the place of
	// crypto/ecdsa; see package signetd/signer/p256. Optional.
	VerifyES256 func(pub *ecdsa.PublicKey) func(digest, sig []byte) bool
	// Places are where the key is, in the order in which they are counted. Optional:
	// one place without a name.
	Places []PlaceConfig
	// Public is the public half, or the [Secret], of a key that is in no place yet.
	// Optional: it may have been known before, and is not needed if there is a key.
	Public crypto.PublicKey
}

// A Version is one generation of a named key: the same key pair, or the same secret, in
// one place or in several, such as the two HSMs of a pair or one account in two regions.
// It has a kid and the algorithms that it is pinned to. It is safe for concurrent use.
type Version struct {
	// These are set by NewVersion and never again.
	public    crypto.PublicKey // nil while unknown: then no place can join
	kid       string
	algs      []Alg
	notBefore time.Time
	verify    bool
	places    []*place
	// es256 verifies v's own ES256 signatures, or is nil.
	es256 func(digest, sig []byte) bool

	turn    atomic.Uint64                     // counts requests, so that places take turns
	headers atomic.Pointer[[]protectedHeader] // the first few protected headers; see protected
}

// NewVersion returns the version that c describes, with key in its first place. Each
// algorithm must be one that key can do; the errors are ErrInvalid and ErrUnsupported.
//
// If key is nil the version is missing, and every operation is ErrUnavailable until
// [Version.Join] puts a key in a place. If its public half is not known either, the kid is
// that of c or empty, and no key can join.
func NewVersion(key Key, c VersionConfig) (*Version, error) {
	if len(c.Algs) == 0 {
		return nil, fmt.Errorf("%w: no algorithms", ErrInvalid)
	}
	if key != nil {
		c.Public = key.Public()
	}
	for _, alg := range c.Algs {
		var err error
		switch {
		case key != nil:
			err = checkKey(key, alg)
		case c.Public != nil:
			err = alg.Fits(c.Public)
		case alg.Family() == 0:
			err = fmt.Errorf("%w: unknown algorithm %.32q", ErrUnsupported, string(alg))
		}
		if err != nil {
			return nil, err
		}
		if err := CanVerify(c.Public); err != nil && !c.SkipVerify {
			return nil, fmt.Errorf("%w, and no signature leaves that was not verified", err)
		}
		if alg.Use() != c.Algs[0].Use() {
			return nil, fmt.Errorf("%w: %s and %s: a key either signs or decrypts", ErrInvalid, c.Algs[0], alg)
		}
	}

	v := &Version{
		public: c.Public, kid: c.KID, algs: slices.Clone(c.Algs), notBefore: c.NotBefore, verify: !c.SkipVerify,
	}
	switch {
	case v.kid != "":
	case v.Symmetric():
		return nil, fmt.Errorf("%w: a symmetric key has no thumbprint: give it a kid", ErrInvalid)
	case v.public != nil:
		var err error
		if v.kid, err = Thumbprint(v.public); err != nil {
			return nil, err
		}
	}
	if pub, ok := v.public.(*ecdsa.PublicKey); ok && c.VerifyES256 != nil {
		v.es256 = c.VerifyES256(pub)
	}

	if len(c.Places) == 0 {
		c.Places = make([]PlaceConfig, 1)
	}
	for _, p := range c.Places {
		v.places = append(v.places, newPlace(p))
	}
	if key != nil {
		v.places[0].join(key)
	}
	return v, nil
}

// checkKey reports why key cannot do alg.
func checkKey(key Key, alg Alg) error {
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

// Public returns the public half of v's key, or the [Secret] that describes it, or nil
// if it is not known yet.
func (v *Version) Public() crypto.PublicKey { return v.public }

// Seen reports whether v's public half is known, and so its kid.
func (v *Version) Seen() bool { return v.seen() == nil }

func (v *Version) seen() error {
	if v.public == nil {
		return fmt.Errorf("%w: backend %q has not opened the key yet, and its public half is not known", ErrUnavailable, v.Backend())
	}
	return nil
}

// Describe returns what the keys of v say of themselves to operators, or "" if they say
// nothing; see [Describer].
func (v *Version) Describe() string {
	var texts []string
	for _, p := range v.places {
		k := p.key.Load()
		if k == nil {
			continue
		}
		if d, ok := (*k).(Describer); ok {
			texts = append(texts, d.Describe())
			if len(v.places) > 1 {
				texts[len(texts)-1] = p.Backend + ": " + d.Describe()
			}
		}
	}
	return strings.Join(texts, "; ")
}

// Symmetric reports whether v's key has no public half.
func (v *Version) Symmetric() bool { return v.algs[0].Symmetric() }

// KID returns the "kid" of v. It is empty if the config names none and the public half is
// not known yet.
func (v *Version) KID() string { return v.kid }

// Use returns what v is for.
func (v *Version) Use() Use { return v.algs[0].Use() }

// Algs returns the algorithms that v is pinned to, the default first.
func (v *Version) Algs() []Alg { return slices.Clone(v.algs) }

// Does reports whether v is pinned to alg. It may be pinned to others, too.
func (v *Version) Does(alg Alg) bool { return slices.Contains(v.algs, alg) }

// NotBefore returns when v becomes active; the zero time means that it always was.
func (v *Version) NotBefore() time.Time { return v.notBefore }

// Backend returns the name of the backend that holds v: the first, if several do.
func (v *Version) Backend() string { return v.places[0].Backend }

// Alg returns the algorithm to use for a request that asks for want, or the default if want
// is empty. An algorithm that v is not pinned to is ErrUnsupported.
func (v *Version) Alg(want Alg) (Alg, error) {
	if want == "" {
		return v.algs[0], nil
	}
	if !slices.Contains(v.algs, want) {
		return "", fmt.Errorf("%w: the key does %v, not %.32q", ErrUnsupported, v.algs, string(want))
	}
	return want, nil
}
