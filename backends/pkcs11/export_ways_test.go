//go:build cgo

package pkcs11

import (
	"crypto"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// WayOf says how the token does alg with k.
func WayOf(k signer.Key, alg signer.Alg) string { return wayOf(k, alg) }

// WayOfWrap says how the token wraps and unwraps with k in one form.
func WayOfWrap(k signer.Key, form signer.WrapForm) string {
	w := inner(k).wraps[form]
	return w.wrap.String() + " / " + w.unwrap.String()
}

// A HotUse makes calls of the hot path on a session of its own, without what
// requests do around them.
type HotUse struct {
	s *session
	h p11.ObjectHandle
	k *key
}

// NewHotUse opens a session. It must be closed before b is.
func NewHotUse(b *Backend, k signer.Key) (*HotUse, error) {
	s, err := b.openSession()
	if err != nil {
		return nil, err
	}
	h, err := inner(k).find(s)
	return &HotUse{s, h, inner(k)}, err
}

// Close closes the session.
func (u *HotUse) Close() { u.k.backend.closeSession(u.s) }

// Sign signs data with CKM_EDDSA.
func (u *HotUse) Sign(data, out []byte) error {
	_, err := u.s.sign(mechanism{typ: ckmEdDSA}, u.h, nil, data, out)
	return err
}

// Unwrap unwraps with RSA-OAEP and SHA-1, and reads.
func (u *HotUse) Unwrap(wrapped, out []byte) error {
	_, err := u.s.unwrap(native.mechanism(crypto.SHA1), u.h, object{access: readable}, wrapped, out)
	return err
}

// OpenWithin unwraps a CEK of 32 bytes with RSA-OAEP and SHA-1 and decrypts with it.
func (u *HotUse) OpenWithin(wrapped, iv, aad, sealed, out []byte) error {
	_, err := u.s.openWithin(native.mechanism(crypto.SHA1), u.h, object{access: hidden}, 32, wrapped, gcm{iv, aad}, sealed, out)
	return err
}

// Derive agrees on a secret.
func (u *HotUse) Derive(point, out []byte) error {
	_, err := u.s.derive(u.h, object{readable, len(out)}, point, out)
	return err
}

// Seal encrypts with AES-GCM.
func (u *HotUse) Seal(iv, aad, plaintext, out []byte) error {
	_, err := u.s.seal(ckmGCM, u.h, nil, gcm{iv, aad}, plaintext, out)
	return err
}

// Open decrypts with AES-GCM.
func (u *HotUse) Open(iv, aad, sealed, out []byte) error {
	_, err := u.s.open(ckmGCM, u.h, nil, gcm{iv, aad}, sealed, out)
	return err
}

// Wrap wraps with AES key wrap.
func (u *HotUse) Wrap(value, out []byte) error {
	_, err := u.s.wrap(mechanism{typ: p11.CKM_AES_KEY_WRAP}, u.h, value, out)
	return err
}
