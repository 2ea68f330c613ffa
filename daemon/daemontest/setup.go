package daemontest

import (
	"context"
	"fmt"
	"os"
	"testing"

	"signetd/backends/software"
	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

const backendName = "soft"

// backend is a software backend whose Ping returns what the test has set.
type backend struct {
	*software.Backend
	ping error
}

func (b backend) Ping(context.Context) error { return b.ping }

// setup makes the keys of c, and the grants for the user who runs the test.
func setup(t testing.TB, c Config) daemon.Setup {
	t.Helper()
	soft, err := software.Open(t.Context(), software.Config{})
	if err != nil {
		t.Fatal(err)
	}

	uid := uint32(os.Getuid()) // #nosec G115 -- of this process
	me := policy.Match{UID: &uid}
	var named []signer.NamedKey
	var known []policy.Key
	var grants []policy.Grant
	if len(c.Ops) > 0 {
		grants = append(grants, policy.Grant{Peer: me, Ops: c.Ops})
	}

	for _, k := range c.Keys {
		v, err := version(t.Context(), soft, k)
		if err != nil {
			t.Fatalf("daemontest: key %q: %v", k.Name, err)
		}
		named = append(named, signer.NamedKey{Name: k.Name, Versions: []*signer.Version{v}})
		known = append(known, policy.Key{Name: k.Name, Use: v.Use(), JWT: k.JWT})
		if len(k.Ops) > 0 {
			grants = append(grants, policy.Grant{Peer: me, Ops: k.Ops, Keys: []string{k.Name}})
		}
	}

	allow := func(of policy.Owner, use signer.Use, name string, ops ...api.Op) {
		known = append(known, policy.Key{Name: name, Use: use, Of: of})
		grants = append(grants, policy.Grant{Peer: me, Ops: ops, Keys: []string{name}})
	}
	for _, is := range c.Issuers {
		allow(policy.Issuer, signer.UseSig, is.Name, api.OpVerify, api.OpVerifyJWS)
	}
	for _, r := range c.Recipients {
		allow(policy.Recipient, signer.UseEnc, r.Name, api.OpEncrypt)
	}

	ring, err := signer.NewRing(named)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(known, grants)
	if err != nil {
		t.Fatal(err)
	}
	return daemon.Setup{Ring: ring, Policy: p, Backends: map[string]signer.Backend{backendName: backend{soft, c.Ping}}, Issuers: c.Issuers, Recipients: c.Recipients}
}

func version(ctx context.Context, b *software.Backend, k Key) (*signer.Version, error) {
	if len(k.Algs) == 0 {
		return nil, fmt.Errorf("%w: the key has no algorithm", signer.ErrInvalid)
	}
	private, err := b.OpenKey(ctx, "generate:"+keyType(k.Algs[0])+":"+k.Name)
	if err != nil {
		return nil, err
	}
	return signer.NewVersion(private, signer.VersionConfig{KID: k.KID, Algs: k.Algs, Places: []signer.PlaceConfig{{Backend: backendName}}})
}

// keyTypes are the types of key of package software for each algorithm. All algorithms that
// are not here are for RSA keys.
var keyTypes = map[signer.Alg]string{
	signer.ES256: "ec-p256", signer.ES384: "ec-p384", signer.ES512: "ec-p521", signer.ES256K: "ec-secp256k1",
	signer.EdDSA: "ed25519", signer.Ed25519: "ed25519",
	signer.MLDSA44: "ml-dsa-44", signer.MLDSA65: "ml-dsa-65", signer.MLDSA87: "ml-dsa-87",
	signer.HS256: "hmac-512", signer.HS384: "hmac-512", signer.HS512: "hmac-512",
	signer.ECDHES: "ec-p256", signer.ECDHESA128KW: "ec-p256", signer.ECDHESA192KW: "ec-p256", signer.ECDHESA256KW: "ec-p256",
	signer.A128KW: "aes-128", signer.A192KW: "aes-192", signer.A256KW: "aes-256",
	signer.A128GCMKW: "aes-128", signer.A192GCMKW: "aes-192", signer.A256GCMKW: "aes-256", signer.Dir: "aes-256",
}

func keyType(alg signer.Alg) string {
	if typ, ok := keyTypes[alg]; ok {
		return typ
	}
	return "rsa-2048"
}
