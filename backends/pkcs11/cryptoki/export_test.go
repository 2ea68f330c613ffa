//go:build cgo

package cryptoki

import p11 "github.com/miekg/pkcs11"

// SignByBinding signs an ES256 digest by the binding's calls.
func (s *Session) SignByBinding(key p11.ObjectHandle, digest []byte) ([]byte, error) {
	ctx := s.module.ctx
	if err := ctx.SignInit(s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}, key); err != nil {
		return nil, err
	}
	return ctx.Sign(s.handle, digest)
}

// DecryptByBinding decrypts RSA-OAEP with SHA-1 by the binding's calls.
func (s *Session) DecryptByBinding(key p11.ObjectHandle, ciphertext []byte) ([]byte, error) {
	ctx := s.module.ctx
	params := p11.NewOAEPParams(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1, p11.CKZ_DATA_SPECIFIED, nil)
	if err := ctx.DecryptInit(s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_OAEP, params)}, key); err != nil {
		return nil, err
	}
	return ctx.Decrypt(s.handle, ciphertext)
}
