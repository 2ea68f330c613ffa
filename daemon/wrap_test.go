package daemon

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// A keepingWrapper keeps the slice of the last key that it wrapped, and what was in it.
type keepingWrapper struct {
	signer.Wrapper
	given, text []byte
}

func (k *keepingWrapper) WrapContext(ctx context.Context, form signer.WrapForm, key []byte) ([]byte, error) {
	k.given, k.text = key, bytes.Clone(key)
	return k.Wrapper.WrapContext(ctx, form, key)
}

// TestWrapKeyForgets: a key that was wrapped is cleared when the request has ended, and so is
// one that was not wrapped because the peer has no grant.
func TestWrapKeyForgets(t *testing.T) {
	f := serve(t, Limits{})
	secret := []byte("0123456789abcdef")
	denied := api.WrapKeyRequest{Key: "inbox", PlainKey: bytes.Clone(secret)}
	q := f.service.Begin(me())
	op := operation[api.WrapKeyRequest, api.WrapKeyResponse]{api.WrapKey, access[api.WrapKeyRequest]{
		key: func(q *api.WrapKeyRequest) string { return q.Key }, forget: forgetWrapKey,
	}, wrapKey}
	if _, _, err := perform(t.Context(), f.service, &q, &op, &denied); !errors.Is(err, signer.ErrDenied) {
		t.Errorf("without a grant: %v", err)
	}
	if !bytes.Equal(denied.PlainKey, make([]byte, len(secret))) {
		t.Errorf("after a refusal the key is still %q", denied.PlainKey)
	}

	backend := openSoftware(t) // Swap closes that of the setup before
	k, err := backend.OpenKey(t.Context(), "generate:aes-256:kek")
	if err != nil {
		t.Fatal(err)
	}
	kek := &keepingWrapper{Wrapper: k.(signer.Wrapper)}
	v, err := signer.NewVersion(kek, signer.VersionConfig{Algs: []signer.Alg{signer.A256KW}, KID: "kek-1", Places: []signer.PlaceConfig{{Backend: "memory"}}})
	if err != nil {
		t.Fatal(err)
	}
	setup := Setup{Backends: map[string]signer.Backend{"memory": backend}}
	if setup.Ring, err = signer.NewRing([]signer.NamedKey{{Name: "kek", Versions: []*signer.Version{v}}}); err != nil {
		t.Fatal(err)
	}
	uid := me().UID
	if setup.Policy, err = policy.New([]policy.Key{{Name: "kek", Use: signer.UseEnc}}, []policy.Grant{
		{Peer: policy.Match{UID: &uid}, Ops: []api.Op{api.OpWrapKey}, Keys: []string{"kek"}},
	}); err != nil {
		t.Fatal(err)
	}
	f.service.Swap(setup)

	if _, err := ask(t, f.service, api.WrapKey, &api.WrapKeyRequest{Key: "kek", PlainKey: secret}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kek.text, secret) || !bytes.Equal(kek.given, make([]byte, len(secret))) {
		t.Errorf("wrapped %q, and afterwards it is %q", kek.text, kek.given)
	}
}
