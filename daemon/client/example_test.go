package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"signetd/daemon/api"
	"signetd/daemon/client"
	"signetd/signer"
)

// An issuer asks for a token. The daemon writes the header and fills in what the
// key's policy says.
func ExampleClient_SignJWT() {
	ctx := context.Background()
	c := client.New(client.Config{}) // $SIGNETD_SOCKET or /run/signetd/signetd.sock; one is enough for a process

	resp, err := c.SignJWT(ctx, api.SignJWTRequest{
		Key:    "oidc",
		Claims: json.RawMessage(`{"sub":"alice","aud":"api"}`),
		TTL:    300,
	})
	var refused *client.Error
	switch {
	case errors.Is(err, signer.ErrDenied):
		log.Fatalf("ask the operator for a grant: %v", err)
	case errors.As(err, &refused) && refused.RetryAfter > 0:
		log.Fatalf("busy, try again in %v", refused.RetryAfter)
	case err != nil:
		log.Fatal(err)
	}
	fmt.Println(resp.Token)
}

// A library that makes tokens with go-jose takes the key as an opaque signer.
func ExampleSigner_Opaque() {
	ctx := context.Background()
	c := client.New(client.Config{})

	key, err := c.Signer(ctx, "oidc")
	if err != nil {
		log.Fatal(err)
	}
	opaque, err := key.Opaque()
	if err != nil {
		log.Fatal(err)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: opaque}, nil)
	if err != nil {
		log.Fatal(err)
	}
	token, err := jwt.Signed(s).Claims(jwt.Claims{Subject: "alice"}).Serialize()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token)
}

// A recipient opens a JWE without seeing a key.
func ExampleClient_DecryptJWE() {
	c := client.New(client.Config{Socket: "/run/signetd/signetd.sock"})

	resp, err := c.DecryptJWE(context.Background(), api.DecryptJWERequest{JWE: "eyJ..."})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", resp.Plaintext)
}
