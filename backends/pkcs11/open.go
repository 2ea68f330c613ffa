//go:build cgo

package pkcs11

import (
	"context"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// OpenKey finds the one private or secret key that ref, a pkcs11: URI, names. It reads the
// public half, and uses the key once in each way that the token lets it, to prove that
// both halves belong together and to see what the token has.
//
// The Key implements those of the interfaces of package signer whose operations worked,
// and always signer.AlgLister.
func (b *Backend) OpenKey(ctx context.Context, ref string) (signer.Key, error) {
	u, err := ParseURI(ref)
	if err != nil {
		return nil, err
	}
	token := b.login.Token()
	if u.Token != "" && u.Token != token.Label || u.Serial != "" && u.Serial != token.Serial {
		return nil, fmt.Errorf("%w: %v is not in %v, which this backend has open", signer.ErrInvalid, u, token)
	}

	k, err := onSession(ctx, b, func(s *session) (*key, error) {
		k := &key{backend: b, ref: u}
		return k, k.open(s)
	})
	if err != nil {
		return nil, fmt.Errorf("pkcs11: open %v: %w", u, err)
	}
	b.healer.add(u, func(s *session) error {
		_, err := k.findAgain(s)
		return err
	})
	return k.withCapabilities(), nil
}

// open finds the key, reads what it is, and finds out what the token can do with it.
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

	for typ, flag := range map[uint]*bool{
		p11.CKA_SIGN: &k.may.sign, p11.CKA_DECRYPT: &k.may.decrypt, p11.CKA_ENCRYPT: &k.may.encrypt,
		p11.CKA_UNWRAP: &k.may.unwrap, p11.CKA_WRAP: &k.may.wrap, p11.CKA_DERIVE: &k.may.derive,
		p11.CKA_ALWAYS_AUTHENTICATE: &k.wantsPIN,
	} {
		if *flag, err = s.Flag(h, typ); err != nil {
			return err
		}
	}

	p := &probe{session: s, h: h, backend: k.backend}
	defer p.end()
	if err := k.probe(p); err != nil {
		return err
	}

	in, err := s.LoggedIn()
	k.tellsLogin = err == nil && in
	k.found.Store(&handle{h, s.stamp})
	return nil
}

// probe uses the key in each way that its type and its attributes allow, and notes what
// works.
func (k *key) probe(p *probe) error {
	if secret, ok := k.public.(signer.Secret); ok {
		if secret.Type == signer.SecretHMAC {
			return k.probeMAC(p)
		}
		return k.probeAES(p)
	}

	opens := isRSA(k.public) && (k.may.decrypt || k.may.unwrap)
	agrees := signer.ECDHES.Fits(k.public) == nil && k.may.derive
	if !k.may.sign && !opens && !agrees {
		return fmt.Errorf("%w: the token lets the key neither sign (CKA_SIGN) nor decrypt (CKA_DECRYPT, CKA_UNWRAP) nor agree (CKA_DERIVE)", signer.ErrUnsupported)
	}

	if k.may.sign {
		if err := k.probeSigning(p); err != nil {
			return err
		}
	}
	var err error
	if opens {
		err = k.probeDecryption(p)
	}
	if agrees {
		err = k.probeAgreement(p)
	}
	if len(k.signs) > 0 && lacks(err) {
		return nil // it is a key that signs and does nothing else
	}
	return err
}

// What OpenKey returns: signing and the like for a key that does one thing, and these for
// one that does more.
type (
	dualKey struct { // RSA
		*key
		signing
		opening
	}
	signAgreeKey struct {
		*key
		signing
		agreeing
	}
	aesKey struct {
		*key
		wrapping
		sealing
	}
)

// withCapabilities returns k with the operations that worked.
func (k *key) withCapabilities() signer.Key {
	signs, opens, agrees, wraps := len(k.signs) > 0, len(k.opens) > 0, k.agrees.point != 0, len(k.wraps) > 0
	switch {
	case signs && opens:
		return dualKey{k, signing{k}, opening{k}}
	case signs && agrees:
		return signAgreeKey{k, signing{k}, agreeing{k}}
	case signs:
		return signing{k}
	case opens:
		return opening{k}
	case agrees:
		return agreeing{k}
	case wraps && k.seals:
		return aesKey{k, wrapping{k}, sealing{k}}
	case wraps:
		return wrapping{k}
	case k.seals:
		return sealing{k}
	default:
		return macing{k}
	}
}

// inner returns the key that withCapabilities wrapped.
func inner(k signer.Key) *key { return k.(interface{ inner() *key }).inner() }

func (k *key) inner() *key { return k }
