// This example signs with the key notes of signetd through two libraries, go-jose and
// golang-jwt, and opens a JWE with the key inbox. The private keys never leave the daemon.
package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"signetd/daemon/client"
)

func main() {
	c := client.New(client.Config{}) // SIGNETD_SOCKET, or /run/signetd/signetd.sock
	if err := run(context.Background(), c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c *client.Client) error {
	key, err := c.Signer(ctx, "notes")
	if err != nil {
		return err
	}

	jws, err := withGoJose(key)
	if err != nil {
		return fmt.Errorf("go-jose: %w", err)
	}
	fmt.Println(jws)

	token, err := withGolangJWT(key)
	if err != nil {
		return fmt.Errorf("golang-jwt: %w", err)
	}
	fmt.Println(token)

	return open(ctx, c)
}

// withGoJose signs through the opaque signer that the client makes for go-jose.
func withGoJose(key *client.Signer) (string, error) {
	opaque, err := key.Opaque()
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.PS256, Key: opaque}, nil)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign([]byte("a signed postcard"))
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// rs256 is golang-jwt's RS256 for keys that are a crypto.Signer. The library's own takes
// only *rsa.PrivateKey.
type rs256 struct{ *jwt.SigningMethodRSA }

// Sign implements jwt.SigningMethod.
func (rs256) Sign(signingString string, key any) ([]byte, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key is not a crypto.Signer")
	}
	h := crypto.SHA256.New()
	h.Write([]byte(signingString))
	return signer.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
}

// withGolangJWT signs and verifies a token. The key notes has no claim rules, so the daemon
// signs any digest. For a key that has claim rules, ask for the token instead: see
// client.SignJWT.
func withGolangJWT(key *client.Signer) (string, error) {
	token := jwt.NewWithClaims(rs256{jwt.SigningMethodRS256}, jwt.MapClaims{"sub": "alice", "aud": "api", "exp": time.Now().Add(time.Minute).Unix()})
	token.Header["kid"] = key.KID()
	signed, err := token.SignedString(key)
	if err != nil {
		return "", err
	}

	_, err = jwt.Parse(signed, func(*jwt.Token) (any, error) { return key.Public(), nil }, jwt.WithValidMethods([]string{"RS256"}), jwt.WithAudience("api"))
	return signed, err
}

// open has go-jose open a JWE whose encrypted key only the daemon can unwrap.
func open(ctx context.Context, c *client.Client) error {
	key, err := c.Decrypter(ctx, "inbox")
	if err != nil {
		return err
	}

	e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: key.Public(), KeyID: key.KID()}, nil)
	if err != nil {
		return err
	}
	sealed, err := e.Encrypt([]byte("a sealed letter"))
	if err != nil {
		return err
	}

	text, err := sealed.Decrypt(key.Opaque())
	if err != nil {
		return err
	}
	fmt.Println("opened:", string(text))
	return nil
}
