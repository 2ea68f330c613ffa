package main

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/client"
	"signetd/signer"
)

// verifyGoJOSE verifies a token with go-jose and returns the payload.
func verifyGoJOSE(token string, key jose.JSONWebKey, alg string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		return nil, fmt.Errorf("go-jose: %w", err)
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return nil, fmt.Errorf("go-jose: %w", err)
	}
	return payload, nil
}

// verifyOpenSSL verifies a token with the openssl command, which reads the public key, the
// signature and the signing input from files.
func (w *world) verifyOpenSSL(ctx context.Context, token string, key jose.JSONWebKey, alg signer.Alg) error {
	input, encoded, ok := cutLast(token)
	if !ok {
		return errors.New("the token has no signature")
	}
	sig, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}

	if alg.Family() == signer.FamilyECDSA { // openssl wants DER where JOSE has r || s
		if sig, err = signer.DERECDSA(sig); err != nil {
			return err
		}
	}
	der, err := x509.MarshalPKIXPublicKey(key.Key)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"pub.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "sig": sig, "input": []byte(input),
	} {
		if err := os.WriteFile(w.path(name), data, 0o600); err != nil {
			return err
		}
	}

	args := []string{"dgst", "-sha256", "-verify", w.path("pub.pem"), "-signature", w.path("sig")}
	if alg.Family() == signer.FamilyPSS {
		args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32")
	}
	out, err := command(ctx, nil, "openssl", append(args, w.path("input"))...)
	if err != nil {
		return err
	}
	if !strings.Contains(out, "Verified OK") {
		return fmt.Errorf("openssl says %q", out)
	}
	return nil
}

func cutLast(token string) (before, after string, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return token, "", false
	}
	return token[:i], token[i+1:], true
}

// withoutID returns the text of an error without the request id, the only part that may
// differ.
func withoutID(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return strings.ReplaceAll(err.Error(), e.RequestID, "")
	}
	return err.Error()
}
