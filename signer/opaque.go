package signer

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// OpaqueSigner returns key in the form that go-jose's [jose.NewSigner] takes. It hashes what
// go-jose hands it and returns signatures in the form of JOSE. Its calls have no deadline:
// go-jose hands over no context.
//
// Signatures are not verified here: the daemon has verified them before they left.
func OpaqueSigner(key Signer, kid string, algs ...Alg) (jose.OpaqueSigner, error) {
	v, err := NewVersion(key, VersionConfig{KID: kid, Algs: algs, SkipVerify: true})
	if err != nil {
		return nil, err
	}
	if v.Use() != UseSig {
		return nil, fmt.Errorf("%w: %s does not sign", ErrUnsupported, algs[0])
	}
	return &opaqueSigner{v}, nil
}

type opaqueSigner struct{ version *Version }

// Public implements [jose.OpaqueSigner].
func (o *opaqueSigner) Public() *jose.JSONWebKey {
	return &o.version.JWK().JSONWebKey
}

// Algs implements [jose.OpaqueSigner].
func (o *opaqueSigner) Algs() (algs []jose.SignatureAlgorithm) {
	for _, a := range o.version.algs {
		algs = append(algs, jose.SignatureAlgorithm(a))
	}
	return algs
}

// SignPayload implements [jose.OpaqueSigner]: payload is the whole signing input.
func (o *opaqueSigner) SignPayload(payload []byte, algorithm jose.SignatureAlgorithm) ([]byte, error) {
	alg, err := o.version.Alg(Alg(algorithm))
	if err != nil {
		return nil, err
	}
	return o.version.SignMessage(context.Background(), alg, payload) //nolint:forbidigo // go-jose gives no context
}

// OpaqueDecrypter returns key in the form that go-jose's [jose.JSONWebEncryption.Decrypt]
// takes. A JWE whose algorithm is not among algs is refused before the key is used. Its
// calls have no deadline: go-jose hands over no context.
func OpaqueDecrypter(key Decrypter, algs ...Alg) jose.OpaqueKeyDecrypter {
	return &opaqueDecrypter{key: key, algs: slices.Clone(algs)}
}

type opaqueDecrypter struct {
	key  Decrypter
	algs []Alg
}

// DecryptKey implements [jose.OpaqueKeyDecrypter].
func (o *opaqueDecrypter) DecryptKey(encryptedKey []byte, header jose.Header) ([]byte, error) {
	alg := Alg(header.Algorithm)
	if !slices.Contains(o.algs, alg) || alg.Use() != UseEnc {
		return nil, fmt.Errorf("%w: %.32q", ErrUnsupported, header.Algorithm)
	}
	return o.key.DecryptContext(context.Background(), encryptedKey, alg.DecrypterOpts()) //nolint:forbidigo // go-jose gives no context
}
