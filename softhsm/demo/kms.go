package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/awskms/awskmstest"
	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/client"
	"signetd/signer"
)

//go:embed kms.yaml.tmpl
var kmsTemplate string

// places are the backends in the order in which the keys move.
var places = []string{"hsm", "aws", "google"}

// A clouds is a world with two cloud services beside the token.
type clouds struct {
	*world
	aws    *awskmstest.Server
	google *gcpkmstest.Server
	from   map[string]string // by backend: the time from which its versions are active
	signed *signers
}

// never is a time far in the future.
const never = "2999-01-01T00:00:00Z"

func runKMS(ctx context.Context, s *story) (err error) {
	w, remove, err := newWorld(s, kmsTemplate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	c := &clouds{world: w, from: map[string]string{"aws": never, "google": never}}
	w.values = c.kmsValues
	if err := w.build(ctx); err != nil {
		return err
	}
	if err := w.provision(ctx, keygen{"oidc", "ec-p256", "sig"}, keygen{"inbox", "rsa-3072", "enc"}); err != nil {
		return err
	}
	if err := c.startClouds(); err != nil {
		return err
	}
	defer c.google.Close()
	defer c.aws.Close()
	if err := w.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()

	w.client = client.New(client.Config{Socket: w.socket()})
	for _, act := range []func(context.Context) error{c.move, c.verify, c.openEach, c.nestKMS, c.records} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	s.end("Every step had the right result.")
	return nil
}

func (c *clouds) kmsValues() map[string]any {
	values := c.tokenValues()
	values["Region"], values["AWS"], values["Google"], values["From"] = c.aws.Region(), c.aws.URL(), c.google.Endpoint(), c.from
	return values
}

// startClouds starts the two services and makes a version of each key in them.
func (c *clouds) startClouds() (err error) {
	c.chapter("Start a fake AWS KMS and a fake Google Cloud KMS, with the same two keys")
	c.aws = awskmstest.Start(awskmstest.Config{})
	if c.google, err = gcpkmstest.NewServer(); err != nil {
		c.aws.Close()
		return err
	}

	for name, value := range c.aws.Env() {
		c.env = append(c.env, name+"="+value)
	}
	c.refs["awsOIDC"] = c.aws.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")
	c.refs["awsInbox"] = c.aws.CreateKey("RSA_3072", "ENCRYPT_DECRYPT")
	c.did("AWS KMS on %s: ECC_NIST_P256 and RSA_3072; it checks the signature of each request", c.aws.URL())
	c.refs["googleOIDC"] = c.google.CreateVersion(c.google.CreateKey("oidc", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256))
	c.refs["googleInbox"] = c.google.CreateVersion(c.google.CreateKey("inbox", kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_3072_SHA256))
	c.did("Google Cloud KMS on %s: EC_SIGN_P256_SHA256 and RSA_DECRYPT_OAEP_3072_SHA256", c.google.Endpoint())
	return nil
}

// perPlace is the least number of tokens that a version signs before the key moves on.
const perPlace = 100

// move moves the key from backend to backend while clients sign.
func (c *clouds) move(ctx context.Context) error {
	c.chapter("Issuers sign, and the key moves from the HSM to AWS and on to Google")
	claims, err := os.ReadFile(claimsFile)
	if err != nil {
		return err
	}
	c.signed = startSigners(ctx, c.client, claims)

	for _, place := range places {
		if place != "hsm" {
			c.from[place] = time.Now().UTC().Format(time.RFC3339Nano)
			if _, err := c.writeConfig(); err != nil {
				return c.signed.failed(err)
			}
			if _, err := c.client.Reload(ctx); err != nil {
				return c.signed.failed(err)
			}
		}
		kid, err := c.activeIn(ctx, place)
		if err != nil {
			return c.signed.failed(err)
		}
		if err := c.signed.wait(ctx, kid, perPlace); err != nil {
			return c.signed.failed(err)
		}
		c.did("kid %s in %s signs: %d tokens by now, no error", kid, place, c.signed.count(kid))
	}

	return c.signed.stop()
}

// activeIn returns the kid of the active version, which must be in the given place.
func (c *clouds) activeIn(ctx context.Context, place string) (string, error) {
	key, err := c.client.Key(ctx, "oidc")
	if err != nil {
		return "", err
	}
	for _, v := range key.Versions {
		if v.Active {
			if v.Backend != place {
				return "", fmt.Errorf("the active version is in %s, not in %s", v.Backend, place)
			}
			return v.KID, nil
		}
	}
	return "", errors.New("no version is active")
}

// verify verifies every token that the clients got.
func (c *clouds) verify(ctx context.Context) error {
	c.chapter("A relying party verifies all of them with one JWKS")
	set, err := c.client.JWKS(ctx)
	if err != nil {
		return err
	}
	total := 0

	for kid, tokens := range c.signed.tokens {
		found := set.Key(kid)
		if len(found) != 1 {
			return fmt.Errorf("kid %s is in the daemon's JWKS %d times", kid, len(found))
		}
		for _, token := range tokens {
			if _, err := verifyGoJOSE(token, found[0].JSONWebKey, "ES256"); err != nil {
				return err
			}
		}
		if err := c.verifyOpenSSL(ctx, tokens[len(tokens)-1], found[0].JSONWebKey, signer.ES256); err != nil {
			return err
		}
		total += len(tokens)
		c.jwt = tokens[len(tokens)-1]
	}
	c.did("%d tokens of %d versions verified by go-jose, and one of each by openssl", total, len(c.signed.tokens))

	if n := c.aws.Calls()["Sign"]; n < perPlace {
		return fmt.Errorf("the fake of AWS was asked for %d signatures", n)
	}
	if n := c.google.Calls("AsymmetricSign"); n < perPlace {
		return fmt.Errorf("the fake of Google was asked for %d signatures", n)
	}
	return nil
}

// openEach seals a payload for each version of the inbox key, and opens it.
func (c *clouds) openEach(ctx context.Context) error {
	c.chapter("A recipient opens " + payloadFile + ", sealed for any of the versions")
	payload, err := os.ReadFile(payloadFile)
	if err != nil {
		return err
	}
	key, err := c.client.Key(ctx, "inbox")
	if err != nil {
		return err
	}
	for _, v := range key.Versions {
		jwe, err := sealFor(v.Public, payload, "")
		if err != nil {
			return err
		}
		opened, err := c.client.DecryptJWE(ctx, api.DecryptJWERequest{JWE: jwe})
		if err != nil {
			return err
		}
		if !bytes.Equal(opened.Plaintext, payload) || opened.KID != v.KID {
			return fmt.Errorf("kid %s opened other bytes than were sealed for %s", opened.KID, v.KID)
		}
		c.did("%-6s opened by kid %s", v.Backend, v.KID)
	}

	return nil
}

// nestKMS seals a token that one cloud signed, and opens it with the other.
func (c *clouds) nestKMS(ctx context.Context) error {
	key, err := c.client.Key(ctx, "inbox")
	if err != nil {
		return err
	}
	for _, v := range key.Versions {
		if v.Backend != "aws" {
			continue
		}
		jwe, err := sealFor(v.Public, []byte(c.jwt), "JWT")
		if err != nil {
			return err
		}
		opened, err := c.client.DecryptJWE(ctx, api.DecryptJWERequest{JWE: jwe})
		if err != nil {
			return err
		}
		verified, err := c.client.VerifyJWT(ctx, api.VerifyJWTRequest{Token: string(opened.Plaintext), Audience: "api"})
		if err != nil {
			return err
		}
		c.did("a JWT in a JWE: opened by aws, verified with key %s", verified.Key)
	}

	return nil
}

// records checks that the audit log has one record for each token.
func (c *clouds) records(context.Context) error {
	c.chapter("The audit log")
	counts := map[string]int{}
	err := c.eachRecord(func(r audit.Record) {
		if r.Op == "sign-jwt" {
			counts[r.KID+" "+r.Outcome]++
		}
	})
	if err != nil {
		return err
	}

	for kid, tokens := range c.signed.tokens {
		if n := counts[kid+" ok"]; n != len(tokens) {
			return fmt.Errorf("the audit log has %d records of kid %s, want %d", n, kid, len(tokens))
		}
		c.did("%d records for the %d tokens of kid %s", len(tokens), len(tokens), kid)
		delete(counts, kid+" ok")
	}

	if len(counts) != 0 {
		return fmt.Errorf("the audit log has more than the tokens that were signed: %v", counts)
	}
	return nil
}
