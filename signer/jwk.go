package signer

import (
	"crypto"
	"encoding/base64"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Thumbprint returns the RFC 7638 thumbprint of pub with SHA-256, in base64url
// without padding: 43 characters, the kid of a key whose config names none.
func Thumbprint(pub crypto.PublicKey) (string, error) {
	jwk := jose.JSONWebKey{Key: pub}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("thumbprint: %w: %w", ErrUnsupported, err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// JWK returns the public key of v (RFC 7517). It names an algorithm only if the
// key has no other.
func (v *Version) JWK() jose.JSONWebKey {
	jwk := jose.JSONWebKey{Key: v.key.Public(), KeyID: v.kid, Use: string(v.Use())}
	if len(v.algs) == 1 {
		jwk.Algorithm = string(v.algs[0])
	}
	return jwk
}
