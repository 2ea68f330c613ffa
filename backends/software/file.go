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

// readKey reads a private key from a PEM or JWK file that others cannot read.
// Its errors never hold what the file holds.
func readKey(path string) (crypto.Signer, error) {
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
		return nil, fmt.Errorf("%w: %s holds no private key in PKCS #8, PKCS #1, SEC 1 or JWK form", signer.ErrInvalid, path)
	}
	return private, nil
}

func parseJWK(data []byte) crypto.Signer {
	var jwk jose.JSONWebKey
	if json.Unmarshal(data, &jwk) != nil {
		return nil
	}
	private, _ := jwk.Key.(crypto.Signer)
	return private
}

func parsePEM(data []byte) crypto.Signer {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			private, _ := k.(crypto.Signer)
			return private
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
