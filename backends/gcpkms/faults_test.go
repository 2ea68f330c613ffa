//go:build !nogcp

package gcpkms_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/gcpkms"
	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/signer"
)

// attempt is how long an attempt may take in these tests, and pauses is how long the two
// pauses between three attempts take at most, with room for a busy machine.
const (
	attempt = time.Second
	pauses  = 800 * time.Millisecond
)

// A faultCase is what goes wrong in a call, and what its caller must get.
type faultCase struct {
	name     string
	kind     gcpkmstest.Kind
	times    int
	deadline time.Duration // of the caller; 5s if 0
	want     error         // nil: the right answer. errPlain: no sentinel
	text     string        // in the error
	attempts int
	least    time.Duration
	most     time.Duration
}

// errPlain stands for an error that wraps no sentinel: a fault to be reported.
var errPlain = errors.New("an error without a sentinel")

// transport are the faults that are the same for every call.
var transport = []faultCase{
	{name: "throttled", kind: gcpkmstest.Throttle, times: 1, want: signer.ErrOverloaded, text: "Google Cloud KMS throttles", attempts: 1},
	{name: "unavailable once", kind: gcpkmstest.Unavailable, times: 1, attempts: 2},
	{name: "unavailable", kind: gcpkmstest.Unavailable, times: -1, want: signer.ErrUnavailable, text: "(3 attempts)", attempts: 3},
	{name: "internal once", kind: gcpkmstest.Internal, times: 1, attempts: 2},
	{name: "internal", kind: gcpkmstest.Internal, times: -1, want: signer.ErrUnavailable, text: "Internal (3 attempts)", attempts: 3},
	{name: "slow", kind: gcpkmstest.Slow, times: 1, attempts: 1, least: attempt / 8},
	{name: "hangs once", kind: gcpkmstest.Hang, times: 1, attempts: 2, least: attempt, most: attempt + pauses},
	{name: "hangs", kind: gcpkmstest.Hang, times: -1, want: signer.ErrUnavailable, text: "no answer within 1s (3 attempts)", attempts: 3, least: 3 * attempt, most: 3*attempt + pauses},
	{name: "hangs past the deadline", kind: gcpkmstest.Hang, times: -1, deadline: attempt / 2, want: context.DeadlineExceeded, attempts: 1, least: attempt / 2, most: attempt/2 + pauses},
	{name: "hangs, with a deadline in the second attempt", kind: gcpkmstest.Hang, times: -1, deadline: 3 * attempt / 2, want: context.DeadlineExceeded, attempts: 2, least: 3 * attempt / 2, most: 3*attempt/2 + pauses},
	{name: "credentials expired", kind: gcpkmstest.Unauthenticated, times: -1, want: signer.ErrUnavailable, text: "credentials are missing, expired or revoked", attempts: 1},
	{name: "permission taken away", kind: gcpkmstest.Denied, times: -1, want: signer.ErrUnavailable, text: "grant the role", attempts: 1},
}

// states are the faults of a version that is changed while it is in use.
var states = []faultCase{
	{name: "disabled in flight", kind: gcpkmstest.Disable, times: 1, want: signer.ErrUnavailable, text: "current state is: DISABLED", attempts: 1},
	{name: "scheduled for destruction in flight", kind: gcpkmstest.Destroy, times: 1, want: signer.ErrUnavailable, text: "current state is: DESTROY_SCHEDULED", attempts: 1},
}

// integrity are the faults of an answer that carries what was asked for.
var integrity = []faultCase{
	{name: "wrong CRC once", kind: gcpkmstest.WrongCRC, times: 1, attempts: 2},
	{name: "wrong CRC", kind: gcpkmstest.WrongCRC, times: -1, want: signer.ErrUnavailable, text: "CRC32C", attempts: 3},
	{name: "no CRC", kind: gcpkmstest.NoCRC, times: -1, want: signer.ErrUnavailable, text: "no CRC32C", attempts: 3},
	{name: "empty answer once", kind: gcpkmstest.Empty, times: 1, attempts: 2},
	{name: "empty answer", kind: gcpkmstest.Empty, times: -1, want: signer.ErrUnavailable, text: "(3 attempts)", attempts: 3},
}

var (
	notVerified = faultCase{name: "not verified", kind: gcpkmstest.NotVerified, times: -1, want: signer.ErrUnavailable, text: "arrived intact", attempts: 3}
	wrongLevel  = faultCase{name: "another protection level", kind: gcpkmstest.WrongLevel, times: -1, want: signer.ErrUnavailable, text: "protection level", attempts: 3}
	wrongName   = faultCase{name: "another version's name", kind: gcpkmstest.WrongName, times: -1, want: signer.ErrUnavailable, text: "names another key version", attempts: 3}
)

// runFaults makes one call for each case, and checks what the caller gets, after how many
// attempts and after how long. use fails the test itself if it gets a wrong answer.
func runFaults(t *testing.T, kms *gcpkmstest.Server, method, version string, use func(context.Context) error, cases ...[]faultCase) {
	t.Helper()

	for _, set := range cases {
		for _, tt := range set {
			t.Run(tt.name, func(t *testing.T) {
				kms.Inject(gcpkmstest.Fault{Method: method, Kind: tt.kind, Times: tt.times, Delay: attempt / 8})
				deadline := tt.deadline
				if deadline == 0 {
					deadline = 5 * time.Second
				}
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				defer cancel()
				before, start := kms.Calls(method), time.Now()
				err := use(ctx)
				took, attempts := time.Since(start), kms.Calls(method)-before
				kms.Heal()
				kms.SetState(version, kmspb.CryptoKeyVersion_ENABLED)
				if !tt.fits(err) {
					t.Errorf("error is %v, want %v with %q", err, tt.want, tt.text)
				}
				if errors.Is(err, signer.ErrOverloaded) != (signer.RetryAfter(err) >= time.Second) {
					t.Errorf("RetryAfter() = %v for %v", signer.RetryAfter(err), err)
				}
				if most := max(tt.most, pauses); attempts != tt.attempts || took < tt.least || took > most {
					t.Errorf("%d attempts in %v, want %d in %v to %v", attempts, took, tt.attempts, tt.least, most)
				}
				t.Logf("%d attempts, %v: %v", attempts, took.Round(time.Millisecond), err)
				for late := time.Now().Add(time.Second); errors.Is(err, signer.ErrOverloaded) && time.Now().Before(late); time.Sleep(5 * time.Millisecond) {
					err = use(t.Context()) // the backend holds back for a moment
				}
				if err := use(t.Context()); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
	}
}

// fits reports whether err is what the caller should get.
func (tt faultCase) fits(err error) bool {
	switch {
	case tt.want == nil || err == nil:
		return err == nil && tt.want == nil
	case errors.Is(tt.want, errPlain):
		return signer.Code(err) == signer.CodeInternal && strings.Contains(err.Error(), tt.text)
	case errors.Is(tt.want, signer.ErrVerify) && signer.Code(err) != signer.CodeInternal:
		return false
	default:
		return errors.Is(err, tt.want) && strings.Contains(err.Error(), tt.text)
	}
}

func faulty(t *testing.T, algorithm string) (kms *gcpkmstest.Server, version string, key signer.Key) {
	t.Helper()
	kms = gcpkmstest.New(t)
	version = create(kms, "faulty", algorithm)
	c := plain(kms)
	c.AttemptTimeout = attempt.String()
	key, err := mustOpen(t, c).OpenKey(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	return kms, version, key
}

// TestSignFaults shows that no fault yields a signature that is wrong.
func TestSignFaults(t *testing.T) {
	t.Parallel()
	kms, version, key := faulty(t, "EC_SIGN_P256_SHA256")
	public := key.Public().(*ecdsa.PublicKey)
	digest := sha256.Sum256([]byte("x"))

	runFaults(t, kms, "AsymmetricSign", version, func(ctx context.Context) error {
		sig, err := key.(signer.Signer).SignContext(ctx, digest[:], signer.ES256.SignerOpts())
		if err != nil && sig != nil {
			t.Error("SignContext() returned a signature and an error")
		}
		if err == nil && !ecdsa.VerifyASN1(public, digest[:], sig) {
			t.Error("SignContext() returned a signature that does not verify")
		}
		return err
	}, transport, states, integrity, []faultCase{
		notVerified, wrongLevel, wrongName,
		{name: "another key's signature", kind: gcpkmstest.AnotherKey, times: -1, want: signer.ErrVerify, text: "does not verify", attempts: 1},
		{name: "a flipped bit under a right CRC", kind: gcpkmstest.FlippedBit, times: -1, want: signer.ErrVerify, text: "withheld", attempts: 1},
	})
}

func TestMACFaults(t *testing.T) {
	t.Parallel()
	kms, version, key := faulty(t, "HMAC_SHA256")
	mac := key.(signer.MACer)
	right, err := mac.MACContext(t.Context(), []byte("x"), signer.HS256.Hash())
	if err != nil {
		t.Fatal(err)
	}
	runFaults(t, kms, "MacSign", version, func(ctx context.Context) error {
		got, err := mac.MACContext(ctx, []byte("x"), signer.HS256.Hash())
		if err == nil && string(got) != string(right) || err != nil && got != nil {
			t.Errorf("MACContext() = %x, %v; want %x", got, err, right)
		}
		return err
	}, transport, states, integrity, []faultCase{notVerified, wrongLevel, wrongName})
}

// TestDecryptFaults shows that no fault is ErrDecrypt: that is for ciphertexts.
func TestDecryptFaults(t *testing.T) {
	t.Parallel()
	kms, version, key := faulty(t, "RSA_DECRYPT_OAEP_2048_SHA256")
	ciphertext := encrypt(t, key, signer.RSAOAEP256, "secret")
	runFaults(t, kms, "AsymmetricDecrypt", version, func(ctx context.Context) error {
		got, err := key.(signer.Decrypter).DecryptContext(ctx, ciphertext, signer.RSAOAEP256.DecrypterOpts())
		if err == nil && string(got) != "secret" || err != nil && got != nil || errors.Is(err, signer.ErrDecrypt) {
			t.Errorf("DecryptContext() = %q, %v", got, err)
		}
		return err
	}, transport, states, integrity, []faultCase{notVerified, wrongLevel})
}

func TestBlobFaults(t *testing.T) {
	t.Parallel()
	kms, version, key := faulty(t, "GOOGLE_SYMMETRIC_ENCRYPTION")
	cipher := key.(signer.BlobCipher)
	blob, err := cipher.EncryptBlob(t.Context(), []byte("secret"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}

	open := func(ctx context.Context) error {
		got, err := cipher.DecryptBlob(ctx, blob, []byte("aad"))
		if err == nil && string(got) != "secret" || err != nil && got != nil || errors.Is(err, signer.ErrDecrypt) {
			t.Errorf("DecryptBlob() = %q, %v", got, err)
		}
		return err
	}

	t.Run("decrypt", func(t *testing.T) { runFaults(t, kms, "Decrypt", version, open, transport, integrity) })

	t.Run("encrypt", func(t *testing.T) {
		runFaults(t, kms, "Encrypt", version, func(ctx context.Context) (err error) {
			sealed, err := cipher.EncryptBlob(ctx, []byte("secret"), []byte("aad"))
			if err == nil {
				blob = sealed
				return open(ctx)
			}
			return err
		}, transport, states, integrity, []faultCase{notVerified, wrongLevel, wrongName})
	})
}

// TestOpenFaults makes GetPublicKey fail: a key is opened with its own public half, or not
// at all.
func TestOpenFaults(t *testing.T) {
	t.Parallel()
	kms := gcpkmstest.New(t)
	version := create(kms, "opened", "EC_SIGN_P256_SHA256")
	c := plain(kms)
	c.AttemptTimeout = attempt.String()
	b := mustOpen(t, c)
	right, err := b.OpenKey(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}

	var open []faultCase
	for _, tt := range transport {
		if tt.kind != gcpkmstest.Denied { // GetPublicKey alone: the version itself is asked then
			open = append(open, tt)
		}
	}

	runFaults(t, kms, "GetPublicKey", version, func(ctx context.Context) error {
		key, err := b.OpenKey(ctx, version)
		if err == nil && !key.Public().(*ecdsa.PublicKey).Equal(right.Public()) {
			t.Error("OpenKey() has another public key")
		}
		return err
	}, open, integrity, []faultCase{
		wrongName,
		{name: "permission taken away", kind: gcpkmstest.Denied, times: -1, want: signer.ErrUnavailable, text: "PermissionDenied", attempts: 1},
		{name: "another algorithm", kind: gcpkmstest.AnotherAlg, times: -1, want: errPlain, text: "the public key is not one for EC_SIGN_P384_SHA384", attempts: 1},
		{name: "disabled", kind: gcpkmstest.Disable, times: 1, want: signer.ErrUnavailable, text: "the version is DISABLED: only an ENABLED one can be used", attempts: 1},
		{name: "scheduled for destruction", kind: gcpkmstest.Destroy, times: 1, want: signer.ErrUnavailable, text: "DESTROY_SCHEDULED", attempts: 1},
	})

	// The public key of another key looks right until it is used.
	kms.Inject(gcpkmstest.Fault{Method: "GetPublicKey", Kind: gcpkmstest.AnotherKey})
	key, err := b.OpenKey(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	v, err := signer.NewVersion(key, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Prove(t.Context()); err == nil || !strings.Contains(err.Error(), "does not verify") {
		t.Errorf("Prove() with another key's public half = %v, want an error", err)
	}
}

// TestOutage closes the server and starts another one in its place.
func TestOutage(t *testing.T) {
	t.Parallel()
	kms := gcpkmstest.New(t)
	b := mustOpen(t, gcpkms.Config{Endpoint: kms.Endpoint(), Plaintext: true, AttemptTimeout: attempt.String()})
	key, err := b.OpenKey(t.Context(), create(kms, "k", "EC_SIGN_P256_SHA256"))
	if err != nil {
		t.Fatal(err)
	}
	kms.Close()
	digest := make([]byte, 32)
	start := time.Now()
	_, err = key.(signer.Signer).SignContext(t.Context(), digest, signer.ES256.SignerOpts())
	if took := time.Since(start); !errors.Is(err, signer.ErrUnavailable) || took > 3*attempt+pauses {
		t.Errorf("SignContext() while the service is away = %v after %v, want ErrUnavailable", err, took)
	}
	if err := b.Ping(t.Context()); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("Ping() while the service is away = %v, want ErrUnavailable", err)
	}
	if _, err := b.OpenKey(t.Context(), gcpkmstest.KeyRing+"/cryptoKeys/k/cryptoKeyVersions/1"); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("OpenKey() while the service is away = %v, want ErrUnavailable", err)
	}
}

func encrypt(t *testing.T, key signer.Key, alg signer.Alg, plaintext string) []byte {
	t.Helper()
	ciphertext, err := rsa.EncryptOAEP(alg.Hash().New(), rand.Reader, key.Public().(*rsa.PublicKey), []byte(plaintext), nil)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}
