package signer

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
)

// WrapKey wraps key, a key of any kind, with v: with RSA-OAEP or with AES key
// wrap, for which form says which. It uses the private or secret key for AES
// alone. A key that is too long for alg, or not of a length that form takes, is
// ErrInvalid.
func (v *Version) WrapKey(ctx context.Context, alg Alg, form WrapForm, key []byte) ([]byte, error) {
	if err := v.wraps(alg, form); err != nil {
		return nil, err
	}
	if pub, ok := v.public.(*rsa.PublicKey); ok {
		if most := pub.Size() - 2*alg.Hash().Size() - 2; len(key) == 0 || len(key) > most { // RFC 8017 section 7.1.1
			return nil, fmt.Errorf("%w: %s with this key wraps 1 to %d bytes, not %d", ErrInvalid, alg, most, len(key))
		}
		return rsa.EncryptOAEPWithOptions(rand.Reader, pub, key, alg.DecrypterOpts())
	}
	if err := CheckWrap(form, key); err != nil {
		return nil, err
	}
	wrapped, err := v.wrap(ctx, form, key)
	if err != nil {
		return nil, fmt.Errorf("wrap: %w", err)
	}
	return wrapped, nil
}

// wrap wraps key with the secret of v.
func (v *Version) wrap(ctx context.Context, form WrapForm, key []byte) ([]byte, error) {
	return on(ctx, v, UseEnc, func(ctx context.Context, w Wrapper) ([]byte, error) {
		return w.WrapContext(ctx, form, key)
	}, nil)
}

// UnwrapKey undoes [Version.WrapKey]. The caller clears the key. Whatever is wrong
// with wrapped is ErrDecrypt.
func (v *Version) UnwrapKey(ctx context.Context, alg Alg, form WrapForm, wrapped []byte) ([]byte, error) {
	if err := v.wraps(alg, form); err != nil {
		return nil, err
	}
	if alg.Family() == FamilyAESKW {
		return opened(ctx, v, func(ctx context.Context, w Wrapper) ([]byte, error) {
			return w.UnwrapContext(ctx, form, wrapped)
		})
	}
	return v.UnwrapCEK(ctx, WrappedCEK{Alg: alg, EncryptedKey: wrapped})
}

// wraps reports why v does not wrap with alg and form. RSA has no form.
func (v *Version) wraps(alg Alg, form WrapForm) error {
	if _, err := v.Alg(alg); err != nil {
		return err
	}
	switch family := alg.Family(); {
	case family == FamilyOAEP && form != 0:
		return fmt.Errorf("%w: form: %s has none", ErrInvalid, alg)
	case family == FamilyAESKW && form != WrapRFC3394 && form != WrapRFC5649:
		return fmt.Errorf("%w: form: not one of AES key wrap", ErrInvalid)
	case family != FamilyOAEP && family != FamilyAESKW:
		return fmt.Errorf("%w: %s wraps the content key of a JWE alone", ErrUnsupported, alg)
	}
	return nil
}
