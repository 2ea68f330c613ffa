package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/signer"
)

const (
	claimsFile  = "deploy/examples/claims.json"
	payloadFile = "deploy/examples/payload.json"
)

// sign signs with three algorithms, as an issuer does, and verifies each token twice.
func (w *world) sign(ctx context.Context) error {
	w.chapter("An issuer signs " + claimsFile)
	claims, err := os.ReadFile(claimsFile)
	if err != nil {
		return err
	}
	set, err := w.client.JWKS(ctx)
	if err != nil {
		return err
	}

	for _, want := range []struct{ key, alg string }{{"oidc", "ES256"}, {"oidc-rsa", "RS256"}, {"oidc-rsa", "PS256"}} {
		signed, err := w.client.SignJWT(ctx, api.SignJWTRequest{Key: want.key, Alg: want.alg, Claims: claims})
		if err != nil {
			return err
		}
		found := set.Key(signed.KID)
		if len(found) != 1 {
			return fmt.Errorf("kid %s is in the daemon's JWKS %d times", signed.KID, len(found))
		}

		payload, err := verifyGoJOSE(signed.Token, found[0].JSONWebKey, want.alg)
		if err != nil {
			return err
		}
		w.did("%s: %s", want.alg, short(signed.Token))
		w.did("%s: verified by go-jose against the daemon's JWKS", want.alg)

		if err := w.verifyOpenSSL(ctx, signed.Token, found[0].JSONWebKey, signer.Alg(want.alg)); err != nil {
			return err
		}
		w.did("%s: verified by openssl", want.alg)
		if w.jwt == "" {
			w.jwt = signed.Token
			w.did("the claims that were asked for, and those that the key's policy filled in:")
			w.show(string(payload))
		}
	}

	return nil
}

// open decrypts a JWE that go-jose sealed, as a recipient does.
func (w *world) open(ctx context.Context) error {
	w.chapter("A recipient opens " + payloadFile)
	payload, err := os.ReadFile(payloadFile)
	if err != nil {
		return err
	}
	jwe, err := w.seal(ctx, payload, "")
	if err != nil {
		return err
	}
	w.did("sealed by go-jose for the inbox key (RSA-OAEP-256, A256GCM): %s", short(jwe))

	opened, err := w.client.DecryptJWE(ctx, api.DecryptJWERequest{JWE: jwe})
	if err != nil {
		return err
	}
	if !bytes.Equal(opened.Plaintext, payload) {
		return errors.New("the daemon opened other bytes than were sealed")
	}
	w.did("opened by the daemon: the same %d bytes", len(payload))
	return nil
}

// nest seals the signed token, opens it and verifies it: a JWS in a JWE.
func (w *world) nest(ctx context.Context) error {
	w.chapter("A nested JWT: a signed postcard in a sealed envelope")
	jwe, err := w.seal(ctx, []byte(w.jwt), "JWT")
	if err != nil {
		return err
	}
	opened, err := w.client.DecryptJWE(ctx, api.DecryptJWERequest{JWE: jwe})
	if err != nil {
		return err
	}
	if opened.Header.Cty != "JWT" || string(opened.Plaintext) != w.jwt {
		return fmt.Errorf("the envelope held something else (cty %q)", opened.Header.Cty)
	}
	w.did("opened: its cty says that it holds a JWT")

	verified, err := w.client.VerifyJWT(ctx, api.VerifyJWTRequest{Token: string(opened.Plaintext), Audience: "api"})
	if err != nil {
		return err
	}
	w.did("the JWT in it verified: key %s, %s, typ %s", verified.Key, verified.Header.Alg, verified.Header.Typ)
	return nil
}

// refuse shows requests that the daemon refuses.
func (w *world) refuse(ctx context.Context) error {
	w.chapter("What is refused")
	if err := w.refuseWithoutGrant(ctx); err != nil {
		return err
	}
	_, err := w.client.SignJWT(ctx, api.SignJWTRequest{Key: "oidc", Claims: json.RawMessage(`{"aud":"api","iss":"https://evil.example"}`)})
	if !errors.Is(err, signer.ErrDenied) {
		return fmt.Errorf("claims of another issuer: %w, want %w", err, signer.ErrDenied)
	}
	w.did("claims that name another issuer: %v", err)

	jwe, err := w.seal(ctx, []byte("secret"), "")
	if err != nil {
		return err
	}
	texts := map[string]bool{}
	for part, name := range []string{"", "encrypted key", "iv", "ciphertext", "tag"} {
		if name == "" {
			continue
		}
		_, err := w.client.DecryptJWE(ctx, api.DecryptJWERequest{JWE: tamper(jwe, part)})
		if !errors.Is(err, signer.ErrDecrypt) {
			return fmt.Errorf("a JWE with a changed %s: %w, want %w", name, err, signer.ErrDecrypt)
		}
		texts[withoutID(err)] = true
	}
	if len(texts) != 1 {
		return fmt.Errorf("tampered JWEs gave %d different errors", len(texts))
	}
	for text := range texts {
		w.did("a JWE with a changed key, iv, ciphertext or tag, all four alike: %s", text)
	}
	return nil
}

// refuseWithoutGrant sends a request that no grant allows, as this user and, if this user
// is root, as another.
func (w *world) refuseWithoutGrant(ctx context.Context) error {
	_, err := w.client.EncryptJWE(ctx, api.EncryptJWERequest{Key: "inbox", Plaintext: []byte("x")})
	if !errors.Is(err, signer.ErrDenied) {
		return fmt.Errorf("an operation without a grant: %w, want %w", err, signer.ErrDenied)
	}
	w.did("uid %d, which has no grant to encrypt: %v", os.Getuid(), err)
	if os.Getuid() != 0 {
		return nil
	}

	if err := os.Chmod(w.dir, 0o711); err != nil { // #nosec G302 -- so that another user gets as far as the socket
		return err
	}
	cmd := exec.CommandContext(ctx, w.path("signet"), "--socket", w.socket(), "sign", "oidc") // #nosec G204 -- what was just built
	cmd.Stdin = strings.NewReader(`{"aud":"api"}`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: otherUID, Gid: otherUID}}

	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "denied") {
		return fmt.Errorf("uid %d without a grant was not refused: %s", otherUID, out)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	w.did("uid %d, which may see the key and not use it: %s", otherUID, first)
	return nil
}

// eachRecord calls f with each record of the audit log.
func (w *world) eachRecord(f func(audit.Record)) error {
	data, err := os.ReadFile(w.path("audit.jsonl"))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		var r audit.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("audit record: %w", err)
		}
		f(r)
	}
	return nil
}

// audit shows and counts the records of the requests so far.
func (w *world) audit(context.Context) error {
	w.chapter("The audit log")
	counts := map[string]int{}
	err := w.eachRecord(func(r audit.Record) {
		counts[r.Op+" "+r.Outcome]++
		w.show(fmt.Sprintf("%s  uid %-5d  %-8s  %-8s  %-12s  %s", r.Time.Format("15:04:05.000"), r.Peer.UID, r.Op, r.Key, r.Alg, r.Outcome))
	})
	if err != nil {
		return err
	}

	for what, n := range map[string]int{"sign-jwt ok": 3, "decrypt ok": 2, "verify ok": 1, "decrypt decrypt_failed": 4, "encrypt denied": 1} {
		if counts[what] != n {
			return fmt.Errorf("the audit log has %d records of %q, want %d", counts[what], what, n)
		}
	}
	w.did("one record for each request, written before its answer left")
	return nil
}

// seal encrypts to the inbox key with go-jose, from its public half alone.
func (w *world) seal(ctx context.Context, payload []byte, cty jose.ContentType) (string, error) {
	key, err := w.client.Key(ctx, "inbox")
	if err != nil {
		return "", err
	}
	return sealFor(key.Versions[0].Public, payload, cty)
}

// sealFor encrypts to a public key with go-jose.
func sealFor(public *signer.JWK, payload []byte, cty jose.ContentType) (string, error) {
	options := &jose.EncrypterOptions{}
	if cty != "" {
		options = options.WithContentType(cty)
	}
	e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: &public.JSONWebKey}, options)
	if err != nil {
		return "", err
	}
	obj, err := e.Encrypt(payload)
	if err != nil {
		return "", err
	}
	return obj.CompactSerialize()
}

// tamper changes the first character of one part of a compact JWE.
func tamper(jwe string, part int) string {
	parts := strings.Split(jwe, ".")
	first := "A"
	if strings.HasPrefix(parts[part], "A") {
		first = "B"
	}
	parts[part] = first + parts[part][1:]
	return strings.Join(parts, ".")
}
