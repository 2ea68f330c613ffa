//go:build cgo

package pkcs11

import (
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// What OpenKey returns: a key with the operations that worked.
type (
	signKey struct {
		*key
		signing
	}
	decryptKey struct {
		*key
		opening
	}
	dualKey struct { // RSA
		*key
		signing
		opening
	}
	agreeKey struct {
		*key
		agreeing
	}
	signAgreeKey struct {
		*key
		signing
		agreeing
	}
	macKey struct {
		*key
		macing
	}
	wrapKey struct {
		*key
		keyWrapping
	}
	sealKey struct {
		*key
		sealing
	}
	aesKey struct {
		*key
		keyWrapping
		sealing
	}
)

var (
	_ signer.MessageSigner    = signKey{}
	_ signer.RawSigner        = signKey{}
	_ signer.ContentDecrypter = decryptKey{}
	_ signer.MessageSigner    = dualKey{}
	_ signer.RawSigner        = dualKey{}
	_ signer.ContentDecrypter = dualKey{}
	_ signer.Agreer           = agreeKey{}
	_ signer.MessageSigner    = signAgreeKey{}
	_ signer.RawSigner        = signAgreeKey{}
	_ signer.Agreer           = signAgreeKey{}
	_ signer.MACer            = macKey{}
	_ signer.Wrapper          = wrapKey{}
	_ signer.AEAD             = sealKey{}
	_ signer.Wrapper          = aesKey{}
	_ signer.AEAD             = aesKey{}
	_ signer.AlgLister        = aesKey{}
)

// kind returns k with the operations that it was found to have.
func (k *key) kind() signer.Key {
	signs, opens, agrees := len(k.forms) > 0, len(k.oaep) > 0, k.agreement.form != 0
	wraps := len(k.wraps) > 0
	switch {
	case signs && opens:
		return dualKey{k, signing{k}, opening{k}}
	case signs && agrees:
		return signAgreeKey{k, signing{k}, agreeing{k}}
	case signs:
		return signKey{k, signing{k}}
	case opens:
		return decryptKey{k, opening{k}}
	case agrees:
		return agreeKey{k, agreeing{k}}
	case wraps && k.seals:
		return aesKey{k, keyWrapping{k}, sealing{k}}
	case wraps:
		return wrapKey{k, keyWrapping{k}}
	case k.seals:
		return sealKey{k, sealing{k}}
	default:
		return macKey{k, macing{k}}
	}
}

// inner returns the key that kind wrapped.
func inner(k signer.Key) *key {
	if i, ok := k.(interface{ inner() *key }); ok {
		return i.inner()
	}
	return nil
}

func (k *key) inner() *key { return k }

// uses are what a token lets a key do.
type uses struct{ sign, decrypt, encrypt, unwrap, wrap, derive bool }

// readUse reads what the token lets the key do.
func (k *key) readUse(s *session, h p11.ObjectHandle) error {
	for typ, flag := range map[uint]*bool{
		p11.CKA_SIGN: &k.may.sign, p11.CKA_DECRYPT: &k.may.decrypt, p11.CKA_ENCRYPT: &k.may.encrypt,
		p11.CKA_UNWRAP: &k.may.unwrap, p11.CKA_WRAP: &k.may.wrap, p11.CKA_DERIVE: &k.may.derive,
		p11.CKA_ALWAYS_AUTHENTICATE: &k.always,
	} {
		var err error
		if *flag, err = s.flag(h, typ); err != nil {
			return err
		}
	}
	return nil
}

// prove uses the key in each way that fits it, and notes what works.
func (k *key) prove(t *trial) error {
	if secret, ok := k.public.(signer.Secret); ok {
		if secret.Type == signer.SecretHMAC {
			return k.proveMAC(t)
		}
		return k.proveAES(t)
	}
	opens, agrees := isRSA(k.public) && (k.may.decrypt || k.may.unwrap), canAgree(k.public) && k.may.derive
	if !k.may.sign && !opens && !agrees {
		return fmt.Errorf("%w: the token lets the key neither sign (CKA_SIGN) nor decrypt (CKA_DECRYPT, CKA_UNWRAP) nor agree (CKA_DERIVE)", signer.ErrUnsupported)
	}
	if k.may.sign {
		if err := k.proveSigning(t); err != nil {
			return err
		}
	}
	if opens {
		if err := k.unlessItSigns(k.proveDecryption(t)); err != nil {
			return err
		}
	}
	if agrees {
		return k.unlessItSigns(k.proveAgreement(t))
	}
	return nil
}
