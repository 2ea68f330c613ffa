package daemontest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/client"
	"signetd/daemon/daemontest"
	"signetd/daemon/policy"
	"signetd/signer"
)

func TestNew(t *testing.T) {
	d := daemontest.New(t, daemontest.Config{Keys: []daemontest.Key{
		{
			Name: "oidc",
			Algs: []signer.Alg{signer.ES256},
			KID:  "oidc-1",
			JWT:  &policy.JWT{Issuer: "https://id.example.com", Audiences: []string{"api"}, MaxTTL: time.Minute, Typ: "JWT"},
			Ops:  []api.Op{api.OpSignJWT},
		},
		{Name: "hidden", Algs: []signer.Alg{signer.PS256, signer.RS256}},
	}})

	c := client.New(client.Config{Socket: d.Socket()})
	t.Cleanup(func() { _ = c.Close() })
	signed, err := c.SignJWT(t.Context(), api.SignJWTRequest{Key: "oidc", Claims: json.RawMessage(`{"aud":"api"}`)})
	if err != nil || signed.KID != "oidc-1" {
		t.Errorf("SignJWT() = %+v, %v", signed, err)
	}
	if _, err := c.Key(t.Context(), "hidden"); !errors.Is(err, signer.ErrDenied) {
		t.Errorf("Key() of a key without a grant = %v, want ErrDenied", err)
	}
	if _, err := c.Reload(t.Context()); !errors.Is(err, signer.ErrDenied) {
		t.Errorf("Reload() = %v, want ErrDenied: it is not in Config.Ops", err)
	}
	if r, err := c.Ready(t.Context()); err != nil || !r.Ready {
		t.Errorf("Ready() = %+v, %v", r, err)
	}

	data, err := os.ReadFile(d.AuditLog())
	if err != nil || bytes.Count(data, []byte("\n")) != 3 || !bytes.Contains(data, []byte(`"kid":"oidc-1"`)) {
		t.Errorf("the audit log is %q, %v; want a record for each of three requests", data, err)
	}
}

func TestPing(t *testing.T) {
	d := daemontest.New(t, daemontest.Config{
		Keys: []daemontest.Key{{Name: "k", Algs: []signer.Alg{signer.ES384}}},
		Ping: signer.ErrUnavailable,
	})

	c := client.New(client.Config{Socket: d.Socket()})
	t.Cleanup(func() { _ = c.Close() })
	if r, err := c.Ready(t.Context()); err != nil || r.Ready {
		t.Errorf("Ready() = %+v, %v, want a daemon that is not ready", r, err)
	}
}
