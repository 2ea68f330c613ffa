//go:build cgo

package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/cryptoki"
	"signetd/signer"
)

// keyFlags are the CK_BBOOL attributes that a report has.
var keyFlags = []struct {
	name string
	typ  uint
}{
	{"CKA_PRIVATE", p11.CKA_PRIVATE},
	{"CKA_SENSITIVE", p11.CKA_SENSITIVE},
	{"CKA_ALWAYS_SENSITIVE", p11.CKA_ALWAYS_SENSITIVE},
	{"CKA_EXTRACTABLE", p11.CKA_EXTRACTABLE},
	{"CKA_NEVER_EXTRACTABLE", p11.CKA_NEVER_EXTRACTABLE},
	{"CKA_LOCAL", p11.CKA_LOCAL},
	{"CKA_SIGN", p11.CKA_SIGN},
	{"CKA_DECRYPT", p11.CKA_DECRYPT},
	{"CKA_UNWRAP", p11.CKA_UNWRAP},
	{"CKA_ENCRYPT", p11.CKA_ENCRYPT}, // of secret keys
	{"CKA_WRAP", p11.CKA_WRAP},       // of secret keys
	{"CKA_DERIVE", p11.CKA_DERIVE},
	{"CKA_ALWAYS_AUTHENTICATE", p11.CKA_ALWAYS_AUTHENTICATE},
}

// examine looks at one key: what it is, and what it can do.
func (in *inspection) examine(ctx context.Context, b *Backend, ref KeyRef) KeyReport {
	r := KeyReport{Name: ref.Name, Ref: ref.Ref}
	subject := "key " + ref.Ref
	if ref.Name != "" {
		subject = fmt.Sprintf("key %q", ref.Name)
	}

	u, err := ParseURI(ref.Ref)
	if err != nil {
		r.Ref, r.Error = "", words(err) // it may carry a PIN
		in.add(Fail, "key-ref", subject, r.Error, "correct the ref in the config file")
		return r
	}

	before := len(in.Findings)
	read, err := readKey(ctx, b, u, r)
	if err != nil {
		r.Error = words(err)
		code, fix := "key-unreadable", "name one key by its label and id, and see what the token says"
		if errors.Is(err, signer.ErrNotFound) {
			code, fix = "key-missing", "correct the ref, or make the key (signetd hsm keygen)"
		}
		in.add(Fail, code, subject, r.Error, fix)
		return r
	}

	r = read
	in.tryKey(ctx, b, ref, subject, &r)
	in.checkAttributes(subject, r)
	if len(in.Findings) == before {
		in.add(OK, "key", subject, "it stays in the token, has one use, and every algorithm came out right", "")
	}
	return r
}

// readKey finds the key that u names, and adds its attributes to r.
func readKey(ctx context.Context, b *Backend, u URI, r KeyReport) (KeyReport, error) {
	return onSession(ctx, b, func(s *session) (KeyReport, error) {
		read := r
		h, err := (&key{backend: b, ref: u}).find(s)
		if err != nil {
			return r, err
		}

		read.Found, read.Attributes = true, make(map[string]bool)
		for _, f := range keyFlags {
			v, err := s.Attribute(h, f.typ)
			if err != nil && cryptoki.Lost(err) {
				return r, err
			}
			if err == nil && len(v) == 1 { // else the token does not tell
				read.Attributes[f.name] = v[0] != 0
			}
		}
		if typ, err := s.Attribute(h, p11.CKA_KEY_TYPE); err == nil {
			read.Type = typeName(ulong(typ))
		}

		// Many tokens do not know this attribute, and say so in many ways.
		if allowed, err := s.Attribute(h, p11.CKA_ALLOWED_MECHANISMS); err == nil {
			const size = strconv.IntSize / 8 // of a CK_ULONG, a long in C
			for number := range slices.Chunk(allowed, size) {
				read.AllowedMechanisms = append(read.AllowedMechanisms, cryptoki.MechanismName(uint(ulong(number))))
			}
		}
		return read, nil
	})
}

// checkAttributes reports what makes a key unsafe, or less safe than it could be.
func (in *inspection) checkAttributes(subject string, r KeyReport) {
	const renew = "make a new key with signetd hsm keygen and rotate to it"
	is := func(name string, value bool) bool { v, told := r.Attributes[name]; return told && v == value }

	switch {
	case is("CKA_EXTRACTABLE", true):
		in.add(Fail, "key-extractable", subject, "it is extractable: anyone who logs in can copy it out (C_WrapKey)", renew)
	case is("CKA_SENSITIVE", false):
		in.add(Fail, "key-not-sensitive", subject, "it is not sensitive: anyone who logs in can read its value", renew)
	case is("CKA_NEVER_EXTRACTABLE", false), is("CKA_ALWAYS_SENSITIVE", false):
		in.add(Warn, "key-imported", subject, "it was imported, or was once extractable: copies may exist", renew+" unless you know where the copies are")
	}

	if is("CKA_PRIVATE", false) {
		in.add(Fail, "key-not-private", subject, "it is not private: a program that does not log in can use it", renew)
	}
	// Tokens like to set CKA_DECRYPT on EC keys, which cannot.
	opens := is("CKA_DERIVE", true)
	if strings.HasPrefix(r.Type, "RSA") {
		opens = is("CKA_DECRYPT", true) || is("CKA_UNWRAP", true)
	}
	if is("CKA_SIGN", true) && opens {
		in.add(Warn, "key-two-uses", subject, "it signs, and opens secrets too: what is signed for one protocol may open a secret of the other",
			"make two keys with signetd hsm keygen, one for each use")
	}
	if is("CKA_ALWAYS_AUTHENTICATE", true) {
		in.add(Warn, "key-always-authenticate", subject, "it wants the PIN for each operation (CKA_ALWAYS_AUTHENTICATE)", "make a key without it: the login guards it already")
	}
}

// tryKey opens the key as the daemon does, runs each algorithm, and measures.
func (in *inspection) tryKey(ctx context.Context, b *Backend, ref KeyRef, subject string, r *KeyReport) {
	in.at(ctx, fmt.Sprintf("open key %q", ref.Name))
	k, err := b.OpenKey(ctx, ref.Ref)
	if err != nil {
		r.Error = words(err)
		in.add(Fail, "key-unusable", subject, r.Error, "see its attributes and the token's mechanisms")
		return
	}
	r.Type = typeOf(k.Public())

	can := inner(k).Algs()
	for _, alg := range ref.Algs {
		if !slices.Contains(can, alg) {
			in.add(Fail, "alg-unsupported", subject, fmt.Sprintf("the config has %s, and token and key can do %v", alg, can), "take it out of algs, or use another key")
		}
	}
	if len(ref.Algs) > 0 {
		can = slices.DeleteFunc(can, func(a signer.Alg) bool { return !slices.Contains(ref.Algs, a) })
	}

	measured := make(map[string]bool)
	for _, alg := range can {
		in.at(ctx, fmt.Sprintf("run %s with key %q", alg, ref.Name))
		a := AlgReport{Alg: alg, Way: strategyOf(k, alg)}
		v, err := signer.NewVersion(k, signer.VersionConfig{KID: "doctor", Algs: []signer.Alg{alg}})
		if err == nil {
			err = v.Prove(ctx) // uses the key once, and checks the answer with the public key
		}
		if err != nil {
			a.Error = words(err)
			in.add(Fail, "alg-wrong", subject, a.Error, "do not use the key: report it to the HSM's vendor")
		} else if a.Proven = true; !measured[a.Way] {
			measured[a.Way] = true
			a.Latency = measureAlg(ctx, k, alg)
		}
		r.Algs = append(r.Algs, a)
	}
}

// typeName names a key type, for a key that was not opened.
func typeName(typ uint64) string {
	switch typ {
	case p11.CKK_RSA:
		return "RSA"
	case p11.CKK_EC:
		return "EC"
	case ckkEdwards:
		return "EC Edwards"
	case p11.CKK_GENERIC_SECRET, ckkSHA256HMAC, ckkSHA384HMAC, ckkSHA512HMAC:
		return "HMAC"
	case p11.CKK_AES:
		return "AES"
	default:
		return fmt.Sprintf("CKK %#x", typ)
	}
}

// typeOf names the type and the size of a key that was opened.
func typeOf(pub crypto.PublicKey) string {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", pub.N.BitLen())
	case *ecdsa.PublicKey:
		return "EC " + pub.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case signer.Secret:
		return fmt.Sprintf("%s-%d", pub.Type, 8*pub.Size)
	default:
		return strings.TrimPrefix(fmt.Sprintf("%T", pub), "*")
	}
}

// strategyOf says how the token does alg with k, and what is left to do here.
func strategyOf(k signer.Key, alg signer.Alg) string {
	i := inner(k)

	switch alg.Family() { //nolint:exhaustive // the token does none of the others
	case signer.FamilyPKCS1v15, signer.FamilyPSS, signer.FamilyECDSA, signer.FamilyEdDSA:
		return signText(alg, i.signs[alg])
	case signer.FamilyHMAC:
		return cryptoki.MechanismName(cryptoki.Hashes[alg.Hash()].HMAC)
	case signer.FamilyOAEP:
		return i.opens[alg.Hash()].String()
	case signer.FamilyECDH:
		return "CKM_ECDH1_DERIVE; the shared secret read and destroyed, the Concat KDF done here"
	case signer.FamilyAESKW:
		w := i.wraps[signer.WrapRFC3394]
		if wrap, unwrap := w.wrap.String(), w.unwrap.String(); wrap != unwrap {
			return wrap + " to wrap; " + unwrap + " to unwrap"
		}
		return w.wrap.String()
	case signer.FamilyGCMKW, signer.FamilyDir:
		return "CKM_AES_GCM"
	}
	return ""
}

func signText(alg signer.Alg, strategy signStrategy) string {
	m, _ := signMechanism(alg, strategy, nil)
	name := m.Name()
	switch {
	case alg.Hash() == 0:
		return name
	case strategy == signMessage:
		return name + " over the message"
	case alg.Family() == signer.FamilyPKCS1v15:
		return name + "; DigestInfo made here"
	default:
		return name + " over a digest"
	}
}

// Bounds of a measurement: whichever comes first.
const (
	measureFor = 300 * time.Millisecond
	measureMax = 1000 // operations
)

// inFlight is how many operations at once are measured.
var inFlight = []int{1, 8}

// measureAlg measures alg without what the daemon does around it. When an operation fails
// it returns what it has and reports no error: alg has just been proven.
func measureAlg(ctx context.Context, k signer.Key, alg signer.Alg) []Latency {
	operate, err := operation(ctx, k, alg)
	if err != nil {
		return nil
	}
	var out []Latency
	for _, n := range inFlight {
		took := runFor(ctx, n, operate)
		if len(took) == 0 {
			break
		}
		slices.Sort(took)
		out = append(out, Latency{n, len(took), took[len(took)/2], took[len(took)*99/100]})
	}
	return out
}

// operation returns the operation to measure: to sign a message, to make its MAC, or to
// decrypt a JWE.
func operation(ctx context.Context, k signer.Key, alg signer.Alg) (func(context.Context) error, error) {
	v, err := signer.NewVersion(k, signer.VersionConfig{KID: "doctor", Algs: []signer.Alg{alg}, SkipVerify: true})
	if err != nil {
		return nil, err
	}

	secret := make([]byte, 32)
	rand.Read(secret)
	if alg.Use() == signer.UseSig {
		return func(ctx context.Context) error {
			_, err := v.SignMessage(ctx, alg, secret)
			return err
		}, nil
	}

	enc := "" // the default
	if key, ok := k.Public().(signer.Secret); ok && alg == signer.Dir {
		enc = fmt.Sprintf("A%dGCM", 8*key.Size)
	}
	jwe, err := v.EncryptJWE(ctx, enc, signer.Header{}, secret)
	if err != nil {
		return nil, err
	}
	sealed, err := signer.ParseSealed(jwe)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		plaintext, err := v.DecryptJWE(ctx, sealed, sealed.Recipients[0])
		clear(plaintext)
		return err
	}, nil
}

// runFor keeps n operations in flight within the bounds, and returns the time that each
// one took that succeeded.
func runFor(ctx context.Context, n int, operate func(context.Context) error) []time.Duration {
	var (
		mu   sync.Mutex
		took []time.Duration
		all  sync.WaitGroup
	)

	end := time.Now().Add(measureFor)
	for range n {
		all.Go(func() { // a goroutine; ends within the bounds, or when an operation fails
			for range measureMax / n {
				start := time.Now()
				if start.After(end) || operate(ctx) != nil {
					return
				}
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return took
}
