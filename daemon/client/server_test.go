package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"signetd/backends/software"
	"signetd/daemon/api"
	"signetd/daemon/client"
	"signetd/signer"
)

// testKeys are the keys of the test server: refs of the software backend.
var testKeys = []struct {
	name, ref string
	algs      []signer.Alg
}{
	{"es256", "generate:ec-p256", []signer.Alg{signer.ES256}},
	{"es384", "generate:ec-p384", []signer.Alg{signer.ES384}},
	{"es512", "generate:ec-p521", []signer.Alg{signer.ES512}},
	{"rsa", "generate:rsa-2048:sig", []signer.Alg{signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512}},
	{"rs256", "generate:rsa-2048:pinned", []signer.Alg{signer.RS256}},
	{"inbox", "generate:rsa-2048:enc", []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256, signer.RSAOAEP384, signer.RSAOAEP512}},
}

// server speaks the API with software keys: no policy, no audit, no grants.
type server struct {
	ring *signer.Ring
	mux  *http.ServeMux
}

func newRing(ctx context.Context) (*signer.Ring, error) {
	backend, err := software.Open(ctx, software.Config{})
	if err != nil {
		return nil, err
	}
	var keys []signer.NamedKey
	for _, k := range testKeys {
		private, err := backend.OpenKey(ctx, k.ref)
		if err != nil {
			return nil, err
		}
		v, err := signer.NewVersion(private, signer.VersionConfig{Algs: k.algs, Backend: "software"})
		if err != nil {
			return nil, err
		}
		keys = append(keys, signer.NamedKey{Name: k.name, Versions: []*signer.Version{v}})
	}
	return signer.NewRing(keys)
}

func newServer(ctx context.Context) (*server, error) {
	ring, err := newRing(ctx)
	if err != nil {
		return nil, err
	}
	s := &server{ring: ring, mux: http.NewServeMux()}
	handle(s, "POST "+api.PathSignJWT, s.signJWT)
	handle(s, "POST "+api.PathVerifyJWT, s.verifyJWT)
	handle(s, "POST "+api.PathSignJWS, s.signJWS)
	handle(s, "POST "+api.PathSignDigest, s.signDigest)
	handle(s, "POST "+api.PathUnwrapCEK, s.unwrapCEK)
	handle(s, "POST "+api.PathDecryptJWE, s.decryptJWE)
	handle(s, "POST "+api.PathEncryptJWE, s.encryptJWE)
	handle(s, "POST "+api.PathReload, func(context.Context, api.Reload) (any, error) { return api.Reloaded{Keys: len(testKeys)}, nil })
	answer(s, "GET "+api.PathHealth, func(*http.Request) (any, error) { return api.Health{Status: "ok"}, nil })
	answer(s, "GET "+api.PathVersion, func(*http.Request) (any, error) { return api.Version{Version: "test"}, nil })
	answer(s, "GET "+api.PathJWKS, func(*http.Request) (any, error) { return ring.JWKS("es256", "rsa", "inbox"), nil })
	answer(s, "GET "+api.PathKeys, func(*http.Request) (any, error) { return s.keys(), nil })
	answer(s, "GET "+api.PathKeys+"/{name}", func(r *http.Request) (any, error) { return s.key(r.PathValue("name")) })
	s.mux.HandleFunc("GET "+api.PathReady, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		json.NewEncoder(w).Encode(api.Ready{Backends: map[string]string{"hsm": "unavailable", "software": "ok"}})
	})
	return s, nil
}

var status = map[string]int{
	"invalid": 400, "denied": 403, "not_found": 404, "unsupported": 422, "decrypt_failed": 422,
	"overloaded": 429, "unavailable": 503, "deadline": 504, "internal": 500,
}

func writeError(w http.ResponseWriter, err error) {
	code := signer.Code(err)
	w.WriteHeader(status[code])
	json.NewEncoder(w).Encode(api.ErrorResponse{Error: api.Error{Code: code, Message: err.Error(), RequestID: "r1"}})
}

func answer(s *server, pattern string, f func(*http.Request) (any, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		a, err := f(r)
		if err != nil {
			writeError(w, err)
			return
		}
		json.NewEncoder(w).Encode(a)
	})
}

func handle[Req any](s *server, pattern string, f func(context.Context, Req) (any, error)) {
	answer(s, pattern, func(r *http.Request) (any, error) {
		var req Req
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&req); err != nil {
			return nil, errors.Join(signer.ErrInvalid, err)
		}
		return f(r.Context(), req)
	})
}

// version finds a key as the daemon does: an unknown name is denied.
func (s *server) version(name, kid string) (*signer.Version, error) {
	k, err := s.ring.Key(name)
	if err != nil {
		return nil, signer.ErrDenied
	}
	if kid == "" {
		return k.Active(time.Now())
	}
	owner, v, err := s.ring.Version(kid)
	if err == nil && owner != name {
		err = signer.ErrNotFound
	}
	return v, err
}

func (s *server) signJWT(ctx context.Context, req api.SignJWTRequest) (any, error) {
	j, err := s.sign(ctx, req.Key, req.Alg, signer.Header{Typ: "JWT"}, req.Claims)
	if err != nil {
		return nil, err
	}
	return api.SignJWTResponse{Token: j.Compact(), KID: j.KID}, nil
}

func (s *server) signJWS(ctx context.Context, req api.SignJWSRequest) (any, error) {
	j, err := s.sign(ctx, req.Key, req.Alg, signer.Header{}, req.Payload)
	if err != nil {
		return nil, err
	}
	return api.SignJWSResponse{JWS: j.Compact(), Protected: j.Protected, Signature: j.Signature, KID: j.KID}, nil
}

func (s *server) sign(ctx context.Context, key, alg string, h signer.Header, payload []byte) (*signer.JWS, error) {
	v, err := s.version(key, "")
	if err != nil {
		return nil, err
	}
	return v.SignJWS(ctx, signer.Alg(alg), h, payload)
}

func (s *server) verifyJWT(_ context.Context, req api.VerifyJWTRequest) (any, error) {
	t, err := signer.ParseSigned(req.Token)
	if err != nil {
		return nil, err
	}
	name, v, err := s.ring.Version(t.KID)
	if err != nil {
		return nil, signer.ErrInvalid
	}
	claims, err := v.VerifyJWS(t)
	if err != nil {
		return nil, err
	}
	return api.VerifyJWTResponse{Claims: claims, Header: api.JWSHeader{Alg: string(t.Alg), KID: t.KID, Typ: t.Typ}, Key: name}, nil
}

func (s *server) signDigest(ctx context.Context, req api.SignDigestRequest) (any, error) {
	v, err := s.version(req.Key, req.KID)
	if err != nil {
		return nil, err
	}
	sig, err := v.Sign(ctx, signer.Alg(req.Alg), req.Digest)
	return api.SignDigestResponse{Signature: sig, KID: v.KID()}, err
}

func (s *server) unwrapCEK(ctx context.Context, req api.UnwrapCEKRequest) (any, error) {
	v, err := s.version(req.Key, req.KID)
	if err != nil {
		return nil, err
	}
	cek, err := v.Unwrap(ctx, signer.Alg(req.Alg), req.EncryptedKey)
	return api.UnwrapCEKResponse{CEK: cek, KID: v.KID()}, err
}

func (s *server) decryptJWE(ctx context.Context, req api.DecryptJWERequest) (any, error) {
	t, err := signer.ParseSealed(req.JWE)
	if err != nil {
		return nil, err
	}
	_, v, err := s.ring.Version(t.KID)
	if err != nil {
		return nil, signer.ErrDecrypt
	}
	plaintext, err := v.DecryptJWE(ctx, t)
	return api.DecryptJWEResponse{Plaintext: plaintext, Header: api.JWEHeader{Alg: string(t.Alg), Enc: t.Enc, KID: t.KID}, KID: v.KID()}, err
}

func (s *server) encryptJWE(_ context.Context, req api.EncryptJWERequest) (any, error) {
	v, err := s.version(req.Key, "")
	if err != nil {
		return nil, err
	}
	jwe, err := v.EncryptJWE(req.Enc, signer.Header{}, req.Plaintext)
	return api.EncryptJWEResponse{JWE: jwe, KID: v.KID()}, err
}

func (s *server) keys() (list api.Keys) {
	for _, k := range s.ring.Keys() {
		described := api.Key{Name: k.Name, Use: string(k.Versions[0].Use())}
		for _, alg := range k.Versions[0].Algs() {
			described.Algs = append(described.Algs, string(alg))
		}
		for _, v := range k.Versions {
			described.Versions = append(described.Versions, api.KeyVersion{KID: v.KID(), Active: true, Backend: v.Backend(), Public: v.JWK()})
		}
		list.Keys = append(list.Keys, described)
	}
	return list
}

func (s *server) key(name string) (any, error) {
	list := s.keys().Keys
	i := slices.IndexFunc(list, func(k api.Key) bool { return k.Name == name })
	if i < 0 {
		return nil, signer.ErrDenied
	}
	return list[i], nil
}

// socketPath is short: t.TempDir may not fit the 104 bytes of a socket's address.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "signet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// serve serves h on a new socket for as long as the test runs.
func serve(t *testing.T, h http.Handler) (socket string) {
	t.Helper()
	socket = socketPath(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(l) // until Close
	t.Cleanup(func() { srv.Close() })
	return socket
}

// connect returns a client of a server that answers with h.
func connect(t *testing.T, h http.Handler) *client.Client {
	t.Helper()
	c := client.New(client.Config{Socket: serve(t, h)})
	t.Cleanup(func() { c.Close() })
	return c
}

// daemon returns a client of a server with the test keys.
func daemon(t *testing.T) *client.Client {
	t.Helper()
	s, err := newServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, s.mux)
}
