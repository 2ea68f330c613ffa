package daemon

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/signer"
)

// usualClaims is a request of usual size.
var usualClaims = []byte(`{"sub":"user:4711","aud":"api","client_id":"web-shop","scope":"orders:read orders:write"}`)

// BenchmarkSignJWT is a token below the transport: policy, P-256 in software, its
// verification, and a record in a file.
func BenchmarkSignJWT(b *testing.B) { benchmarkSignJWT(b, benchService(b, openSoftware(b), false)) }

// BenchmarkSignJWTStub is BenchmarkSignJWT without the cryptography: what the daemon
// itself costs.
func BenchmarkSignJWTStub(b *testing.B) { benchmarkSignJWT(b, benchService(b, newStub(b), true)) }

func benchmarkSignJWT(b *testing.B, s *Service) {
	b.ReportAllocs()
	for b.Loop() {
		signOnce(b, s, &api.SignJWTRequest{Key: "oidc", Claims: usualClaims})
	}
}

// BenchmarkAnswer is a token from the bytes of a request to those of its response: JSON,
// policy, a record in a file, and a key that costs nothing.
func BenchmarkAnswer(b *testing.B) {
	s := benchService(b, newStub(b), true)
	body := []byte(`{"key":"oidc","claims":` + string(usualClaims) + `}`)
	b.ReportAllocs()
	for b.Loop() {
		q := s.Begin(me())
		q.Method, q.Path, q.Body = api.SignJWT.Method, api.SignJWT.Path, body
		r := s.Answer(b.Context(), &q)
		if err := r.Commit(); err != nil || r.Status != http.StatusOK {
			b.Fatalf("%d %s %v", r.Status, r.Body, err)
		}
	}
}

// BenchmarkDecode is the strict decoding of a request for a token.
func BenchmarkDecode(b *testing.B) {
	body := []byte(`{"key":"oidc","claims":` + string(usualClaims) + `}`)
	b.ReportAllocs()
	for b.Loop() {
		if one, _, err := decodeOneOrMany[api.SignJWTRequest](body, 64); err != nil || one.Key != "oidc" {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecryptJWE is a JWE opened below the transport: RSA-OAEP in software, and a
// record in a file.
func BenchmarkDecryptJWE(b *testing.B) {
	s := benchService(b, openSoftware(b), false)
	k, err := s.Ring().Key("inbox")
	if err != nil {
		b.Fatal(err)
	}
	jwe, err := k.Versions[0].EncryptJWE(b.Context(), "", signer.Header{}, usualClaims)
	if err != nil {
		b.Fatal(err)
	}
	op := operation[api.DecryptJWERequest, api.DecryptJWEResponse]{Endpoint: api.DecryptJWE, access: access[api.DecryptJWERequest]{grant: grantDecryptJWE, note: noteDecryptJWE}, act: decryptJWE}
	b.ReportAllocs()
	for b.Loop() {
		performOnce(b, s, &op, &api.DecryptJWERequest{JWE: jwe})
	}
}

var signOp = operation[api.SignJWTRequest, api.SignJWTResponse]{
	Endpoint: api.SignJWT, act: signJWT,
	access: access[api.SignJWTRequest]{key: func(q *api.SignJWTRequest) string { return q.Key }},
}

func signOnce(t testing.TB, s *Service, body *api.SignJWTRequest) { performOnce(t, s, &signOp, body) }

// performOnce has the service perform op, with its record written, without any JSON.
func performOnce[Q, A any](t testing.TB, s *Service, op *operation[Q, A], body *Q) {
	q := s.Begin(me())
	_, rec, err := perform(t.Context(), s, &q, op, body)
	if err == nil {
		err = rec.commit()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// benchService is a service over the keys of a fixture, without a socket.
func benchService(t testing.TB, backend signer.Backend, skipVerify bool) *Service {
	t.Helper()
	log, err := audit.Open(filepath.Join(t.TempDir(), "audit.jsonl"), audit.SyncNever)
	if err != nil {
		t.Fatal(err)
	}
	m := NewMetrics("test")
	setup := newSetup(t, backend, m)
	if skipVerify {
		setup.Ring = unverified(t, backend, m)
	}
	s := NewService(setup, Config{Audit: log, Metrics: m, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// unverified is a ring of one key whose signatures are not verified.
func unverified(t testing.TB, backend signer.Backend, m *Metrics) *signer.Ring {
	t.Helper()
	k, err := backend.OpenKey(t.Context(), "generate:ec-p256")
	if err != nil {
		t.Fatal(err)
	}
	v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, SkipVerify: true, Places: []signer.PlaceConfig{{Backend: "memory", Observe: m.ObserveBackend("memory")}}})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := signer.NewRing([]signer.NamedKey{{Name: "oidc", Versions: []*signer.Version{v}}})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// A stub is a backend whose one signing key has the same signature for everything.
type stub struct {
	signer.Backend
	key stubKey
}

// OpenKey implements [signer.Backend].
func (s *stub) OpenKey(ctx context.Context, ref string) (signer.Key, error) {
	if ref == "generate:ec-p256" {
		return s.key, nil
	}
	return s.Backend.OpenKey(ctx, ref)
}

func newStub(t testing.TB) *stub {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("stub"))
	der, err := private.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.RawECDSA(der, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &stub{openSoftware(t), stubKey{&private.PublicKey, der, sig}}
}

type stubKey struct {
	public   *ecdsa.PublicKey
	der, sig []byte
}

// Public implements [signer.Key].
func (k stubKey) Public() crypto.PublicKey { return k.public }

// Sign implements [crypto.Signer].
func (k stubKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return k.der, nil }

// SignContext implements [signer.Signer].
func (k stubKey) SignContext(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
	return k.der, nil
}

// SignRaw implements [signer.RawSigner], as a token does.
func (k stubKey) SignRaw(context.Context, signer.Alg, []byte, []byte) ([]byte, error) {
	return k.sig, nil
}
