package signertest

import (
	"crypto"
	"crypto/ecdsa"
	"errors"
	"math/big"
	"testing"

	"signetd/signer"
)

// signRaw is sign for keys that return signatures in the form of JOSE.
func (s *suite) signRaw(t *testing.T, k signer.Signer, alg signer.Alg) {
	r, ok := k.(signer.RawSigner)
	if !ok {
		return
	}

	d, message := digest(alg, "conformance"), []byte("conformance")
	for name, m := range map[string][]byte{"the digest": nil, "digest and message": message} {
		sig, err := r.SignRaw(t.Context(), alg, d, m)
		if s.lacks(alg) && errors.Is(err, signer.ErrUnsupported) {
			continue
		}

		if err == nil {
			err = verifyRaw(k.Public(), alg, d, sig)
		}
		if err != nil {
			t.Errorf("%s: SignRaw(%s): %v", alg, name, err)
		}
	}
	s.wrongRaw(t, r, alg)
}

// wrongRaw asks for what the key must refuse.
func (s *suite) wrongRaw(t *testing.T, k signer.RawSigner, alg signer.Alg) {
	if alg.Hash() != 0 && !s.lacks(alg) {
		if _, err := k.SignRaw(t.Context(), alg, make([]byte, alg.Hash().Size()-1), nil); !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("%s: SignRaw(a digest that is too short) = %v, want ErrInvalid", alg, err)
		}
	}

	for _, other := range signer.Known() {
		if other.Use() == signer.UseSig && other.Fits(k.Public()) == nil {
			continue
		}
		if _, err := k.SignRaw(t.Context(), other, digest(other, "x"), []byte("x")); !errors.Is(err, signer.ErrUnsupported) {
			t.Errorf("SignRaw(%s) with a key for %s = %v, want ErrUnsupported", other, alg, err)
		}
	}
}

// verifyRaw is verify for the form of JOSE.
func verifyRaw(pub crypto.PublicKey, alg signer.Alg, digest, sig []byte) error {
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return verify(pub, alg, digest, sig)
	}
	size := (ec.Curve.Params().BitSize + 7) / 8
	if len(sig) != 2*size || !ecdsa.Verify(ec, digest, new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])) {
		return errors.New("signature does not verify, or is not r || s")
	}
	return nil
}
