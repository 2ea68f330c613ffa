//go:build linux && cgo

package tokens_test

import (
	"errors"
	"slices"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm/tokens"
)

// TestLostLogin logs out without the backend, before each use of each kind of key. Tokens
// answer the next call in many ways, which also differ from call to call. No request may
// fail, and none may be taken for a bad ciphertext.
func TestLostLogin(t *testing.T) {
	for _, kit := range tokens.All() {
		t.Run(kit.Name, func(t *testing.T) {
			if !runAlone(t) {
				return
			}
			token := kit.New(t)
			var refs []string
			for use, byType := range kinds {
				for _, typ := range kit.Types {
					if kind, ok := byType[typ]; ok && typ != provision.ECP384 && typ != provision.ECP521 && typ != provision.AES192 && typ != provision.AES256 {
						if use == signer.UseEnc && typ == provision.ECP256 && kit.NoAgreement {
							continue
						}
						if kit.Name == "nss" && slices.Contains(secretTypes, typ) {
							continue // see secretTypes
						}
						refs = append(refs, token.Generate(t, string(kind), typ, use))
					}
				}
			}
			cfg := token.Config()
			lose := func() { logOut(t, token) }
			if kit.Name == "p11kit" { // each program that loads its client gets an instance of its own
				cfg.Sessions = 1 // see NewP11Kit
				lose = func() { token.Cut(t) }
			}
			b := open(t, cfg)
			for _, ref := range refs {
				k, err := b.OpenKey(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				for _, alg := range k.(signer.AlgLister).Algs() {
					useAfter(t, k, alg, lose)
				}
			}
		})
	}
}

// secretTypes are left out with NSS 3.87. At a C_Logout it frees the values of secret keys,
// and at the next C_SignInit with the handle it reads them, which ends the process about
// once in ten times. Only another library in the process can log it out, and no check before
// the call would be in time.
var secretTypes = []provision.KeyType{provision.HMAC512, provision.AES128, provision.AES192, provision.AES256}

// logOut logs the process out, as another library in it might.
func logOut(t *testing.T, token *tokens.Token) {
	t.Helper()
	ctx := p11.New(token.Module())
	slot, err := token.Slot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := ctx.Logout(s); err != nil && !errors.Is(err, p11.Error(p11.CKR_USER_NOT_LOGGED_IN)) {
		t.Fatal(err)
	}
	if err := ctx.CloseSession(s); err != nil {
		t.Fatal(err)
	}
}

// useAfter loses the login before each use of k with alg.
func useAfter(t *testing.T, k signer.Key, alg signer.Alg, lose func()) {
	t.Helper()
	v, err := signer.NewVersion(k, signer.VersionConfig{KID: "k", Algs: []signer.Alg{alg}})
	if err != nil {
		t.Fatal(err)
	}
	lose()
	if alg.Use() == signer.UseSig {
		if _, err := v.SignMessage(t.Context(), alg, []byte("x")); err != nil {
			t.Errorf("%s: SignMessage() = %v", alg, err)
		}
		return
	}
	enc := ""
	if alg == signer.Dir {
		enc = "A128GCM"
	}
	jwe, err := v.EncryptJWE(t.Context(), enc, signer.Header{}, []byte("x"))
	if err != nil {
		t.Errorf("%s: EncryptJWE() = %v", alg, err)
		return
	}
	sealed, err := signer.ParseSealed(jwe)
	if err != nil {
		t.Fatal(err)
	}
	if alg.Symmetric() { // else the encryption did not use the token
		lose()
	}
	if _, err := v.DecryptJWE(t.Context(), sealed, sealed.Recipients[0]); err != nil {
		t.Errorf("%s: DecryptJWE() = %v", alg, err)
	}
}
