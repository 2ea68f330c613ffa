//go:build cgo

package pkcs11

import (
	"crypto"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// NativeOAEP reports whether a decryption key uses the token's own OAEP for hash.
func NativeOAEP(k signer.Key, hash crypto.Hash) bool {
	switch k := k.(type) {
	case decryptKey:
		return k.oaep[hash] == native
	case dualKey:
		return k.oaep[hash] == native
	}
	return false
}

// A Hot is a session of its own with a key in it, to measure the calls that
// each request makes beside those of the binding that they replaced.
type Hot struct {
	s *session
	h p11.ObjectHandle
	k *key
}

// NewHot opens a session. It must be closed before its Backend is.
func NewHot(b *Backend, k signer.Key) (*Hot, error) {
	var inner *key
	switch k := k.(type) {
	case signKey:
		inner = k.key
	case decryptKey:
		inner = k.key
	}
	s, err := b.openSession()
	if err != nil {
		return nil, err
	}
	h, err := inner.find(s)
	return &Hot{s, h, inner}, err
}

// Close closes the session.
func (h *Hot) Close() { h.k.backend.closeSession(h.s) }

// Sign signs an ES256 digest into out by the calls of this package.
func (h *Hot) Sign(digest, out []byte) error {
	_, err := h.s.sign(mechanism{typ: p11.CKM_ECDSA}, h.h, nil, digest, out)
	return err
}

// SignByBinding is Sign by the binding's calls.
func (h *Hot) SignByBinding(digest []byte) ([]byte, error) {
	if err := h.s.ctx.SignInit(h.s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}, h.h); err != nil {
		return nil, err
	}
	return h.s.ctx.Sign(h.s.handle, digest)
}

// Decrypt decrypts RSA-OAEP with SHA-1 into out by the calls of this package.
func (h *Hot) Decrypt(ciphertext, out []byte) error {
	_, err := h.s.decrypt(native.mechanism(crypto.SHA1), h.h, nil, ciphertext, out)
	return err
}

// DecryptByBinding is Decrypt by the binding's calls.
func (h *Hot) DecryptByBinding(ciphertext []byte) ([]byte, error) {
	params := p11.NewOAEPParams(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1, p11.CKZ_DATA_SPECIFIED, nil)
	if err := h.s.ctx.DecryptInit(h.s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_OAEP, params)}, h.h); err != nil {
		return nil, err
	}
	return h.s.ctx.Decrypt(h.s.handle, ciphertext)
}
