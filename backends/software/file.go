package software

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"

	"signetd/signer"
)

// readKey reads a private or secret key, a crypto.Signer or a secret, from a PEM or JWK file that others cannot read.
// Its errors never hold what the file holds.
func readKey(path string) (any, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", signer.ErrNotFound, err)
	case err != nil:
		return nil, err
	case info.Mode().Perm()&0o007 != 0:
		return nil, fmt.Errorf("%w: %s has mode %04o: others may read it; use 0600", signer.ErrInvalid, path, info.Mode().Perm())
	}
	data, err := os.ReadFile(path) // #nosec G304 -- the operator's config names the file
	if err != nil {
		return nil, err
	}
	defer clear(data)
	parse := parsePEM
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		parse = parseJWK
	}
	private := parse(data)
	if private == nil {
		return nil, fmt.Errorf("%w: %s holds no private key in PKCS #8, PKCS #1, SEC 1 or JWK form, nor a symmetric one in a JWK with its alg", signer.ErrInvalid, path)
	}
	return private, nil
}

// parseJWK returns nil if data holds no key that it knows.
func parseJWK(data []byte) any {
	var jwk jose.JSONWebKey
	if json.Unmarshal(data, &jwk) != nil {
		if k, ok := parseK1JWK(data); ok {
			return k
		}
		return nil
	}
	switch k := jwk.Key.(type) {
	case crypto.Signer:
		return k
	case []byte:
		switch signer.Alg(jwk.Algorithm).Family() { //nolint:exhaustive // the symmetric ones
		case signer.FamilyHMAC:
			return secret{signer.SecretHMAC, k}
		case signer.FamilyAESKW, signer.FamilyGCMKW, signer.FamilyDir:
			return secret{signer.SecretAES, k}
		}
	}
	return nil
}

// parseK1JWK reads a private JWK on secp256k1 (RFC 8812 section 3.1).
func parseK1JWK(data []byte) (k1Key, bool) {
	var jwk struct {
		Kty, Crv, D, X, Y string
	}
	if json.Unmarshal(data, &jwk) != nil || jwk.Kty != "EC" || jwk.Crv != "secp256k1" {
		return k1Key{}, false
	}
	decode := base64.RawURLEncoding.Strict().DecodeString
	d, err := decode(jwk.D)
	if err != nil {
		return k1Key{}, false
	}
	defer clear(d)
	x, errX := decode(jwk.X)
	y, errY := decode(jwk.Y)
	if errX != nil || errY != nil {
		return k1Key{}, false
	}
	return parseK1(d, x, y)
}

func parsePEM(data []byte) any {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			return k // a type that is none of those that are known is told there
		}
		if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return k
		}
		if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return k
		}
	}
	return nil
}
