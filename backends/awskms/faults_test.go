//go:build !noaws

package awskms_test

import (
	"context"
	"crypto"
	"errors"
	"strings"
	"testing"
	"time"

	"signetd/backends/awskms"
	"signetd/backends/awskms/awskmstest"
	"signetd/backends/cloud"
	"signetd/signer"
)

const (
	attemptTimeout = 300 * time.Millisecond
	slack          = 150 * time.Millisecond // of a busy machine
	rest           = 50 * time.Millisecond  // after a throttle, for calls to go out again
	pauses         = 150 * time.Millisecond // of two retries at most
)

// TestFaults makes each fault happen to Sign, and checks what the caller gets, after how
// many attempts and after how long. No fault may yield a signature that is not the key's.
func TestFaults(t *testing.T) {
	const always = -1
	var internal error // no sentinel: a bug, or a service that answers wrongly
	type fault = awskmstest.Fault
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server, func(c *awskms.Config) { c.AttemptTimeout = attemptTimeout.String() })
	arn := server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")
	state := func(s string) fault { return awskmstest.Before(func() { server.SetState(arn, s) }) }

	tests := []struct {
		name     string
		fault    fault
		times    int
		ok       bool
		want     error
		text     string
		attempts int
		least    time.Duration
	}{
		{name: "throttling", fault: awskmstest.Throttling(), times: 1, want: signer.ErrOverloaded, text: "quota", attempts: 1},
		{name: "too many of something", fault: awskmstest.Error("LimitExceededException", ""), times: 1, want: signer.ErrOverloaded, attempts: 1},
		{name: "status 429", fault: awskmstest.Status(429), times: 1, want: signer.ErrOverloaded, attempts: 1},
		{name: "status 500 once", fault: awskmstest.Status(500), times: 1, ok: true, attempts: 2},
		{name: "status 500", fault: awskmstest.Status(500), times: always, want: signer.ErrUnavailable, text: "status 500", attempts: 3},
		{name: "status 503 once", fault: awskmstest.Status(503), times: 1, ok: true, attempts: 2},
		{name: "status 503", fault: awskmstest.Status(503), times: always, want: signer.ErrUnavailable, text: "status 503", attempts: 3},
		{name: "internal error twice", fault: awskmstest.Error("KMSInternalException", ""), times: 2, ok: true, attempts: 3},
		{name: "internal error", fault: awskmstest.Error("KMSInternalException", ""), times: always, want: signer.ErrUnavailable, text: "KMSInternalException", attempts: 3},
		{name: "dependency timeout", fault: awskmstest.Error("DependencyTimeoutException", ""), times: always, want: signer.ErrUnavailable, attempts: 3},
		{name: "key unavailable", fault: awskmstest.Error("KeyUnavailableException", ""), times: always, want: signer.ErrUnavailable, attempts: 3},

		{name: "slow", fault: awskmstest.Slow(attemptTimeout / 3), times: always, ok: true, attempts: 1, least: attemptTimeout / 3},
		{name: "too slow once", fault: awskmstest.Slow(2 * attemptTimeout), times: 1, ok: true, attempts: 2, least: attemptTimeout},
		{name: "hang once", fault: awskmstest.Hang(), times: 1, ok: true, attempts: 2, least: attemptTimeout},
		{name: "hang", fault: awskmstest.Hang(), times: always, want: signer.ErrUnavailable, text: "no answer within 300ms (3 attempts)", attempts: 3, least: 3 * attemptTimeout},
		{name: "reset once", fault: awskmstest.Reset(), times: 1, ok: true, attempts: 2},
		{name: "reset", fault: awskmstest.Reset(), times: always, want: signer.ErrUnavailable, attempts: 3},
		{name: "cut once", fault: awskmstest.Cut(), times: 1, ok: true, attempts: 2},
		{name: "cut", fault: awskmstest.Cut(), times: always, want: signer.ErrUnavailable, attempts: 3},
		{name: "cut JSON", fault: awskmstest.CutJSON(), times: always, want: signer.ErrUnavailable, attempts: 3},
		{name: "a page", fault: awskmstest.HTML(200), times: always, want: signer.ErrUnavailable, attempts: 3},
		{name: "a page of 502", fault: awskmstest.HTML(502), times: always, want: signer.ErrUnavailable, text: "status 502", attempts: 3},
		{name: "a page of 403", fault: awskmstest.HTML(403), times: always, want: signer.ErrUnavailable, text: "status 403", attempts: 3},
		{name: "a redirect", fault: awskmstest.Status(302), times: always, want: signer.ErrUnavailable, attempts: 3},
		{name: "{} once", fault: awskmstest.Empty(), times: 1, ok: true, attempts: 2},
		{name: "{}", fault: awskmstest.Empty(), times: always, want: signer.ErrUnavailable, text: "names no key", attempts: 3},

		{name: "no key", fault: awskmstest.Without("KeyId"), times: always, want: signer.ErrUnavailable, attempts: 3},
		{name: "no signature", fault: awskmstest.Without("Signature"), times: always, want: signer.ErrUnavailable, text: "without a signature", attempts: 3},
		{name: "no algorithm", fault: awskmstest.Without("SigningAlgorithm"), times: always, want: signer.ErrUnavailable, attempts: 3},
		{name: "another algorithm", fault: awskmstest.With("SigningAlgorithm", "ECDSA_SHA_384"), times: 1, want: internal, text: "withheld", attempts: 1},
		{name: "another key's ARN", fault: awskmstest.OtherARN(), times: 1, want: internal, text: "another key's", attempts: 1},
		{name: "another key's signature", fault: awskmstest.OtherKey(), times: 1, want: signer.ErrVerify, text: "does not verify", attempts: 1},
		{name: "no DER", fault: awskmstest.With("Signature", make([]byte, 64)), times: 1, want: signer.ErrVerify, text: "withheld", attempts: 1},
		{name: "a signature of nothing", fault: awskmstest.With("Signature", []byte{0x30, 6, 2, 1, 1, 2, 1, 1}), times: 1, want: signer.ErrVerify, text: "does not verify", attempts: 1},

		{name: "expired credentials once", fault: awskmstest.ExpiredCredentials(), times: 1, ok: true, attempts: 2},
		{name: "expired credentials", fault: awskmstest.ExpiredCredentials(), times: always, want: signer.ErrUnavailable, text: "expired", attempts: 3},
		{name: "unknown credentials", fault: awskmstest.Error("UnrecognizedClientException", ""), times: always, want: signer.ErrUnavailable, text: "credentials", attempts: 1},
		{name: "wrong signature", fault: awskmstest.Error("InvalidSignatureException", ""), times: always, want: signer.ErrUnavailable, text: "clock", attempts: 1},
		{name: "no permission", fault: awskmstest.Error("AccessDeniedException", "User: arn:aws:iam::111122223333:user/x is not authorized"), times: always, want: signer.ErrUnavailable, text: "kms:Sign", attempts: 1},
		{name: "validation", fault: awskmstest.Error("ValidationException", "the message"), times: 1, want: internal, text: "ValidationException", attempts: 1},
		{name: "an error of next year", fault: awskmstest.Error("MoonPhaseException", ""), times: 1, want: internal, text: "MoonPhaseException", attempts: 1},
		{name: "wrong usage", fault: awskmstest.Error("InvalidKeyUsageException", ""), times: 1, want: signer.ErrUnsupported, attempts: 1},

		{name: "disabled in flight", fault: state(awskmstest.Disabled), times: 1, want: signer.ErrUnavailable, text: "enable it", attempts: 1},
		{name: "pending deletion", fault: state(awskmstest.PendingDeletion), times: 1, want: signer.ErrUnavailable, text: "cancel the deletion", attempts: 1},
		{name: "enabled again", fault: state(awskmstest.Enabled), times: 1, ok: true, attempts: 1},
		{name: "gone", fault: awskmstest.Error("NotFoundException", ""), times: 1, want: signer.ErrNotFound, text: "no such key", attempts: 1},
	}
	k := openSigner(t, b, arn)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server.SetState(arn, awskmstest.Enabled)
			server.Inject("Sign", 1, tt.times, tt.fault)
			defer server.Heal()
			time.Sleep(rest)
			before, start := server.Calls()["Sign"], time.Now()
			digest := make([]byte, 32)
			sig, err := k.SignContext(t.Context(), digest, crypto.SHA256)
			took, attempts := time.Since(start), server.Calls()["Sign"]-before
			switch {
			case tt.ok && err != nil:
				t.Errorf("SignContext() = %v, want a signature", err)
			case tt.ok:
				if err := cloud.Verify(server.Public(arn), signer.ES256, digest, sig); err != nil {
					t.Errorf("SignContext(): %v", err)
				}
			case sig != nil:
				t.Errorf("SignContext() = %d bytes with error %v, want none", len(sig), err)
			case (tt.want == nil || errors.Is(tt.want, signer.ErrVerify)) && signer.Code(err) != signer.CodeInternal, !strings.Contains(err.Error(), tt.text), tt.want != nil && !errors.Is(err, tt.want):
				t.Errorf("SignContext() = %v, want %v with %q", err, tt.want, tt.text)
			}
			if attempts != tt.attempts {
				t.Errorf("%d attempts, want %d", attempts, tt.attempts)
			}
			if most := tt.least + pauses + slack; took < tt.least || took > most {
				t.Errorf("took %v, want %v to %v", took, tt.least, most)
			}
			if (signer.RetryAfter(err) > 0) != errors.Is(err, signer.ErrOverloaded) {
				t.Errorf("RetryAfter(%v) = %v", err, signer.RetryAfter(err))
			}
			if err != nil && signer.Code(err) != signer.CodeInternal && strings.Contains(err.Error(), "111122223333") {
				t.Errorf("SignContext() = %v: peers need not know the account", err)
			}
			t.Logf("%-24s %-12s %d attempts %8s %v", tt.name, signer.Code(err), attempts, took.Round(time.Millisecond), err)
		})
	}
}

func openSigner(t *testing.T, b *awskms.Backend, ref string) signer.Signer {
	t.Helper()
	k, err := b.OpenKey(t.Context(), ref)
	if err != nil {
		t.Fatalf("OpenKey() = %v", err)
	}
	s, ok := k.(signer.Signer)
	if !ok {
		t.Fatalf("OpenKey() = %T, want a signer.Signer", k)
	}
	return s
}

// TestFaultsOfOthers makes the faults happen that the other operations check for.
func TestFaultsOfOthers(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server)

	get := func(sort ...string) signer.Key {
		k, err := b.OpenKey(t.Context(), server.CreateKey(sort[0], sort[1]))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}

	mac := get("HMAC_256", "GENERATE_VERIFY_MAC").(signer.MACer)
	dec := get("RSA_2048", "ENCRYPT_DECRYPT").(signer.Decrypter)
	agree := get("ECC_NIST_P256", "KEY_AGREEMENT").(signer.Agreer)
	blob := get("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT").(signer.BlobCipher)
	peer := peerKey(t)
	wrapped := encryptTo(t, dec, signer.RSAOAEP256, []byte("x"))

	uses := map[string]func(ctx context.Context) ([]byte, error){
		"GenerateMac": func(ctx context.Context) ([]byte, error) { return mac.MACContext(ctx, []byte("x"), crypto.SHA256) },
		"Decrypt": func(ctx context.Context) ([]byte, error) {
			return dec.DecryptContext(ctx, wrapped, signer.RSAOAEP256.DecrypterOpts())
		},
		"DeriveSharedSecret": func(ctx context.Context) ([]byte, error) { return agree.AgreeContext(ctx, peer) },
		"Encrypt":            func(ctx context.Context) ([]byte, error) { return blob.EncryptBlob(ctx, []byte("x"), nil) },
	}

	results := map[string]string{"GenerateMac": "Mac", "Decrypt": "Plaintext", "DeriveSharedSecret": "SharedSecret", "Encrypt": "CiphertextBlob"}
	algorithms := map[string]string{"GenerateMac": "MacAlgorithm", "Decrypt": "EncryptionAlgorithm", "DeriveSharedSecret": "KeyAgreementAlgorithm", "Encrypt": "EncryptionAlgorithm"}

	for op, use := range uses {
		for name, tt := range map[string]struct {
			fault    awskmstest.Fault
			code     string
			attempts int
		}{
			"{}":                    {awskmstest.Empty(), "unavailable", 3},
			"another key's ARN":     {awskmstest.OtherARN(), signer.CodeInternal, 1},
			"no key":                {awskmstest.Without("KeyId"), "unavailable", 3},
			"no result":             {awskmstest.Without(results[op]), "unavailable", 3},
			"no algorithm":          {awskmstest.Without(algorithms[op]), "unavailable", 3},
			"another algorithm":     {awskmstest.With(algorithms[op], "ROT13"), signer.CodeInternal, 1},
			"throttling":            {awskmstest.Throttling(), "overloaded", 1},
			"hang, and a page":      {awskmstest.HTML(200), "unavailable", 3},
			"does not decrypt":      {awskmstest.Error("InvalidCiphertextException", ""), "decrypt_failed", 1},
			"another key's":         {awskmstest.Error("IncorrectKeyException", ""), "decrypt_failed", 1},
			"disabled":              {awskmstest.Error("DisabledException", ""), "unavailable", 1},
			"no permission":         {awskmstest.Error("AccessDeniedException", ""), "unavailable", 1},
			"a MAC of another size": {awskmstest.With(results[op], []byte{}), "unavailable", 3},
		} {
			if name == "a MAC of another size" && op == "Decrypt" {
				continue // an empty plaintext is one
			}
			t.Run(op+" "+name, func(t *testing.T) {
				server.Inject(op, 1, -1, tt.fault)
				defer server.Heal()
				time.Sleep(rest)
				before := server.Calls()[op]
				got, err := use(t.Context())
				if got != nil || signer.Code(err) != tt.code {
					t.Errorf("%s = %d bytes, %v; want code %s", op, len(got), err, tt.code)
				}
				if n := server.Calls()[op] - before; n != tt.attempts {
					t.Errorf("%d attempts, want %d", n, tt.attempts)
				}
				if errors.Is(err, signer.ErrDecrypt) && err.Error() != signer.ErrDecrypt.Error() {
					t.Errorf("%s = %v: a reason is an oracle", op, err)
				}
			})
		}
		time.Sleep(rest)
		if _, err := use(t.Context()); err != nil {
			t.Errorf("%s after all faults = %v", op, err)
		}
	}
}
