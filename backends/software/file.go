package software

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"

	"signetd/signer"
)

// readKey reads a crypto.Signer or a secret from a PEM or JWK file, which others must
// not be able to read. The errors hold nothing of the file.
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
		return nil, fmt.Errorf("%w: %s has no private key (PKCS #8, PKCS #1, SEC 1 or JWK) and no symmetric key (JWK with alg)", signer.ErrInvalid, path)
	}
	return private, nil
}

// parseJWK returns nil if data is not a JWK that this package knows.
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
	d, okD := signer.DecodeBase64URL(jwk.D)
	defer clear(d)
	x, okX := signer.DecodeBase64URL(jwk.X)
	y, okY := signer.DecodeBase64URL(jwk.Y)
	if !okD || !okX || !okY {
		return k1Key{}, false
	}
	return parseK1(d, x, y)
}

// parsePEM returns the first private key in data, or nil.
func parsePEM(data []byte) any {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			return k // OpenKey refuses a type that it does not know
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
