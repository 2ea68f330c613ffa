//go:build cgo

package pkcs11_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/signer"
)

// Keys are wrapped as RFC 3394 and 5649 say, in each way that a token may force.
func TestWaysToWrap(t *testing.T) {
	const (
		object = "C_WrapKey and C_UnwrapKey with CKM_AES_KEY_WRAP"
		padded = "C_WrapKey and C_UnwrapKey with CKM_AES_KEY_WRAP_PAD"
		blocks = "CKM_AES_ECB; key wrap done here, block by block"
	)
	r := newRig(t)
	value := make([]byte, 32)
	rand.Read(value)

	tests := []struct {
		name           string
		key            attrs
		rules          []string
		want, wantPads string
	}{
		{"all", aesUses(), nil, object + " / " + object, blocks + " / " + padded}, // SoftHSM2 wraps with padding otherwise
		{"no key wrap", aesUses(), []string{"C_WrapKey * rv=CKR_MECHANISM_INVALID", "C_UnwrapKey * rv=CKR_MECHANISM_INVALID"}, blocks + " / " + blocks, blocks + " / " + blocks},
		{"no C_UnwrapKey", aesUses(), []string{"C_UnwrapKey * rv=CKR_FUNCTION_NOT_SUPPORTED"}, object + " / " + blocks, blocks + " / " + blocks},
		{"no object to wrap", aesUses(), []string{"C_CreateObject * rv=CKR_SESSION_READ_ONLY"}, blocks + " / " + object, blocks + " / " + padded},
		{"encrypt and decrypt alone", attrs{p11.CKA_ENCRYPT: true, p11.CKA_DECRYPT: true, p11.CKA_WRAP: false, p11.CKA_UNWRAP: false}, nil, blocks + " / " + blocks, blocks + " / " + blocks},
		{"wrap and unwrap alone", attrs{p11.CKA_ENCRYPT: false, p11.CKA_DECRYPT: false, p11.CKA_WRAP: true, p11.CKA_UNWRAP: true}, nil, object + " / " + object, " / "},
	}
	key := make([]byte, 32)
	rand.Read(key)

	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			label := fmt.Sprintf("k%d", i)
			r.raw.secret(p11.CKK_AES, label, label, value, tt.key)
			defer r.f.Inject(tt.rules...)()
			k := mustOpenKey(t, r.b, "pkcs11:object="+label)
			for form, want := range map[signer.WrapForm]string{signer.WrapRFC3394: tt.want, signer.WrapRFC5649: tt.wantPads} {
				if got := pkcs11.WrapStrategyOf(k, form); got != want {
					t.Errorf("form %d: by %q, want %q", form, got, want)
				}
				if want == " / " {
					_, err := k.(signer.Wrapper).WrapContext(t.Context(), form, key)
					wantError(t, err, signer.ErrUnsupported)
					continue
				}
				wantWrap(t, k.(signer.Wrapper), value, form, key)
				if form == signer.WrapRFC5649 {
					wantWrap(t, k.(signer.Wrapper), value, form, key[:21])
				}
			}
			if tt.key[p11.CKA_ENCRYPT] == false {
				wantAlgs(t, k, signer.A256KW)
			} else {
				wantAlgs(t, k, signer.A256KW, signer.A256GCMKW, signer.Dir)
			}
			r.raw.wantNoSessionKeys()
		})
	}
}

// wantWrap compares with an implementation over AES of the standard library.
func wantWrap(t *testing.T, w signer.Wrapper, value []byte, form signer.WrapForm, key []byte) {
	t.Helper()
	block, err := aes.NewCipher(value)
	if err != nil {
		t.Fatal(err)
	}
	want, err := signer.WrapBlocks(form, key, func(b []byte) error { block.Encrypt(b, b); return nil })
	if err != nil {
		t.Fatal(err)
	}

	got, err := w.WrapContext(t.Context(), form, key)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("WrapContext(form %d, %d bytes) = %x, %v, want %x", form, len(key), got, err, want)
	}
	if back, err := w.UnwrapContext(t.Context(), form, want); err != nil || !bytes.Equal(back, key) {
		t.Errorf("UnwrapContext(form %d) = %d bytes, %v", form, len(back), err)
	}

	want[5] ^= 1
	if _, err := w.UnwrapContext(t.Context(), form, want); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
		t.Errorf("UnwrapContext(form %d, tampered): %v, want ErrDecrypt itself", form, err)
	}
}

// Sealing makes the same as AES-GCM of the standard library, with a new IV each time. IVs and
// tags of a wrong length, which a token would take, never reach it.
func TestSeal(t *testing.T) {
	r := newRig(t)
	value := make([]byte, 16)
	rand.Read(value)
	r.raw.secret(p11.CKK_AES, "k", "k", value, attrs{p11.CKA_ENCRYPT: true, p11.CKA_DECRYPT: true})
	k := mustOpenKey(t, r.b, "pkcs11:object=k").(signer.AEAD)

	block, err := aes.NewCipher(value)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}

	seen := map[string]bool{}
	for range 100 {
		iv, sealed, err := k.SealContext(t.Context(), []byte("plain"), []byte("aad"))
		if err != nil || seen[string(iv)] {
			t.Fatalf("SealContext() = IV %x, %v", iv, err)
		}
		seen[string(iv)] = true
		if got, err := aead.Open(nil, iv, sealed, []byte("aad")); err != nil || string(got) != "plain" {
			t.Fatalf("the standard library reads %q, %v", got, err)
		}
	}

	before := r.f.Count("C_DecryptInit").Calls
	for name, in := range map[string][2][]byte{
		"no IV":     {nil, aead.Seal(nil, make([]byte, 12), nil, nil)},
		"a long IV": {make([]byte, 16), make([]byte, 32)},
		"no tag":    {make([]byte, 12), nil},
		"short tag": {make([]byte, 12), make([]byte, 15)},
	} {
		if _, err := k.OpenContext(t.Context(), in[0], in[1], nil); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
			t.Errorf("%s: %v, want ErrDecrypt itself", name, err)
		}
	}
	if r.f.Count("C_DecryptInit").Calls != before {
		t.Error("it reached the token")
	}
}

// An AES key that does one direction alone cannot be opened, and the error says why.
func TestAESRefuses(t *testing.T) {
	r := newRig(t)
	value := make([]byte, 16)
	r.raw.secret(p11.CKK_AES, "one way", "\x01", value, attrs{p11.CKA_ENCRYPT: true, p11.CKA_DECRYPT: false, p11.CKA_WRAP: true, p11.CKA_UNWRAP: false})
	r.raw.secret(p11.CKK_GENERIC_SECRET, "silent", "\x02", make([]byte, 32), attrs{p11.CKA_SIGN: false})
	r.raw.secret(p11.CKK_DES3, "des", "\x03", bytes.Repeat([]byte{1, 2, 4, 7, 8, 11, 13, 14}, 3), nil)
	for ref, words := range map[string]string{"one%20way": "both directions", "silent": "CKA_SIGN", "des": "CKK 0x15"} {
		_, err := r.b.OpenKey(t.Context(), "pkcs11:object="+ref)
		wantError(t, err, signer.ErrUnsupported, words)
	}
}

// If two keys have one name, the type in the ref decides; without it the private key is used.
func TestRefTypes(t *testing.T) {
	r := newRig(t)
	r.raw.ec(oidP256, "twin", "\x01", attrs{p11.CKA_SIGN: true})
	r.raw.secret(p11.CKK_GENERIC_SECRET, "twin", "\x02", make([]byte, 32), attrs{p11.CKA_SIGN: true})
	r.raw.secret(p11.CKK_GENERIC_SECRET, "two", "\x03", make([]byte, 32), attrs{p11.CKA_SIGN: true})
	r.raw.secret(p11.CKK_AES, "two", "\x04", make([]byte, 32), aesUses())

	for ref, want := range map[string]string{
		"pkcs11:object=twin": "*ecdsa.PublicKey", "pkcs11:object=twin;type=private": "*ecdsa.PublicKey",
		"pkcs11:object=twin;type=secret-key": "signer.Secret", "pkcs11:id=%02": "signer.Secret",
	} {
		if got := fmt.Sprintf("%T", mustOpenKey(t, r.b, ref).Public()); got != want {
			t.Errorf("%s is a %s, want %s", ref, got, want)
		}
	}
	_, err := r.b.OpenKey(t.Context(), "pkcs11:object=two")
	wantError(t, err, signer.ErrInvalid, "2 keys")
	_, err = r.b.OpenKey(t.Context(), "pkcs11:object=two;type=private")
	wantError(t, err, signer.ErrNotFound)
}

// A secret key that was replaced by another is noticed, although it has no public half.
func TestReplacedSecretIsNoticed(t *testing.T) {
	r := newRig(t)
	tests := map[string]struct {
		keyType uint
		size    int
		uses    func() attrs
		use     func(context.Context, signer.Key) error
	}{
		"mac": {p11.CKK_GENERIC_SECRET, 32, func() attrs { return attrs{p11.CKA_SIGN: true} }, func(ctx context.Context, k signer.Key) error {
			_, err := k.(signer.MACer).MACContext(ctx, []byte("x"), signer.HS256.Hash())
			return err
		}},
		"wrap": {p11.CKK_AES, 16, aesUses, func(ctx context.Context, k signer.Key) error {
			_, err := k.(signer.Wrapper).WrapContext(ctx, signer.WrapRFC3394, make([]byte, 16))
			return err
		}},
		"seal": {p11.CKK_AES, 32, aesUses, func(ctx context.Context, k signer.Key) error {
			_, _, err := k.(signer.AEAD).SealContext(ctx, []byte("x"), nil)
			return err
		}},
	}

	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			value := make([]byte, tt.size)
			rand.Read(value)
			h := r.raw.secret(tt.keyType, name, name, value, tt.uses())
			if name == "seal" {
				defer r.f.Inject("C_EncryptInit * rv=CKR_MECHANISM_INVALID mech=CKM_AES_ECB", "C_WrapKey * rv=CKR_MECHANISM_INVALID")()
			}
			k := mustOpenKey(t, r.b, "pkcs11:object="+name)
			if err := tt.use(t.Context(), k); err != nil {
				t.Fatal(err)
			}
			r.raw.destroy(h)
			wantError(t, tt.use(t.Context(), k), signer.ErrUnavailable, "cannot be found again")
			h = r.raw.secret(tt.keyType, name, name, append(value[1:], value[0]), tt.uses())
			wantError(t, tt.use(t.Context(), k), signer.ErrUnavailable, "another key has its name")
			r.raw.destroy(h)
			h = r.raw.secret(tt.keyType, name, name, append(value[tt.size-1:], value[:tt.size-1]...), tt.uses())
			wantError(t, tt.use(t.Context(), k), signer.ErrUnavailable, "another key has its name")
			r.raw.destroy(h)
			r.raw.secret(tt.keyType, name, name, value, tt.uses()) // as from a backup
			if err := tt.use(t.Context(), k); err != nil {
				t.Errorf("the same key under another handle: %v", err)
			}
		})
	}
}

// The ways in which a token may want to be asked for ECDH.
func TestWaysToAgree(t *testing.T) {
	r := newRig(t)
	r.raw.ec(oidP256, "k", "\x01", attrs{p11.CKA_SIGN: false, p11.CKA_DERIVE: true})
	for _, rule := range []string{
		"C_DeriveKey 1 rv=CKR_ATTRIBUTE_READ_ONLY",       // not with a length
		"C_DeriveKey 1-4 rv=CKR_MECHANISM_PARAM_INVALID", // only a point in an OCTET STRING
		"C_DeriveKey 1-5 rv=CKR_TEMPLATE_INCONSISTENT",   // and not with a length either
	} {
		t.Run(rule, func(t *testing.T) {
			defer r.f.Inject(rule)()
			k := mustOpenKey(t, r.b, "pkcs11:object=k").(signer.Agreer)
			own, err := k.Public().(*ecdsa.PublicKey).ECDH()
			if err != nil {
				t.Fatal(err)
			}
			for range 300 { // one in 256 begins with a zero
				peer, err := ecdh.P256().GenerateKey(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				want, err := peer.ECDH(own)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := k.AgreeContext(t.Context(), peer.PublicKey()); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("AgreeContext() = %x, %v, want %x", got, err, want)
				}
			}
			r.raw.wantNoSessionKeys()
		})
	}
	lift := r.f.Inject("C_DeriveKey * rv=CKR_MECHANISM_INVALID")
	_, err := r.b.OpenKey(t.Context(), "pkcs11:object=k")
	wantError(t, err, signer.ErrUnsupported, "CKM_ECDH1_DERIVE")
	lift()

	k := mustOpenKey(t, r.b, "pkcs11:object=k").(signer.Agreer)
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{"C_DeriveKey * rv=CKR_GENERAL_ERROR", "C_DeriveKey * rv=CKR_DOMAIN_PARAMS_INVALID", "C_GetAttributeValue * rv=CKR_GENERAL_ERROR"} {
		lift := r.f.Inject(rule)
		if _, err := k.AgreeContext(t.Context(), peer.PublicKey()); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
			t.Errorf("%s: %v, want ErrDecrypt itself", rule, err)
		}
		lift()
		r.raw.wantNoSessionKeys()
	}
	if _, err := k.AgreeContext(t.Context(), nil); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
		t.Errorf("no peer: %v, want ErrDecrypt itself", err)
	}
}

// A key that can sign and agree has both interfaces: the config decides on its use.
func TestSignAgreeKey(t *testing.T) {
	r := newRig(t)
	r.raw.ec(oidP256, "k", "\x01", attrs{p11.CKA_SIGN: true, p11.CKA_DERIVE: true})
	k := mustOpenKey(t, r.b, "pkcs11:object=k")
	wantAlgs(t, k, signer.ES256, signer.ECDHES, signer.ECDHESA128KW, signer.ECDHESA192KW, signer.ECDHESA256KW)

	for _, alg := range []signer.Alg{signer.ES256, signer.ECDHES} {
		if err := mustVersion(t, k, alg).Prove(t.Context()); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	lift := r.f.Inject("C_DeriveKey * rv=CKR_FUNCTION_NOT_SUPPORTED")
	defer lift()
	k = mustOpenKey(t, r.b, "pkcs11:object=k")
	wantAlgs(t, k, signer.ES256)
	if _, ok := k.(signer.Agreer); ok {
		t.Error("a key that was seen not to agree is an Agreer")
	}
}

// A key that wants the PIN for each operation gets it, in each way of using it.
func TestAlwaysAuthenticateKinds(t *testing.T) {
	r := newRig(t)
	always := func(a attrs) attrs { a[p11.CKA_ALWAYS_AUTHENTICATE] = true; return a }
	r.raw.rsa(2048, "RS256", "\x01", always(attrs{p11.CKA_SIGN: true, p11.CKA_DECRYPT: false}))
	r.raw.rsa(2048, "RSA-OAEP-256", "\x02", always(attrs{p11.CKA_SIGN: false, p11.CKA_DECRYPT: true, p11.CKA_UNWRAP: true}))
	r.raw.rsa(2048, "RSA-OAEP", "\x03", always(unwrapOnly()))
	r.raw.ec(oidP256, "ES256", "\x04", always(attrs{p11.CKA_SIGN: true}))
	r.raw.ec(oidP256, "ECDH-ES", "\x05", always(attrs{p11.CKA_SIGN: false, p11.CKA_DERIVE: true}))
	r.raw.ec(oidSecp256k1, "ES256K", "\x06", always(attrs{p11.CKA_SIGN: true}))
	edwards := attrs{p11.CKA_EC_PARAMS: []byte("\x06\x03\x2b\x65\x70"), p11.CKA_VERIFY: true}.name("EdDSA", "\x07")
	r.raw.generate(0x1055, edwards, always(attrs{p11.CKA_SIGN: true}).name("EdDSA", "\x07")) // CKM_EC_EDWARDS_KEY_PAIR_GEN

	holding := r.holding(t)
	for _, alg := range []signer.Alg{signer.RS256, signer.RSAOAEP, signer.RSAOAEP256, signer.ES256, signer.ECDHES, signer.ES256K, signer.EdDSA} {
		backends := []*pkcs11.Backend{r.b}
		if alg == signer.RSAOAEP {
			backends = append(backends, holding)
		}
		for _, b := range backends {
			before := r.f.Count("C_Login").Calls
			if err := mustVersion(t, mustOpenKey(t, b, "pkcs11:object="+string(alg)), alg).Prove(t.Context()); err != nil {
				t.Errorf("%s: %v", alg, err)
			}

			// C_UnwrapKey and C_DeriveKey have no step before which the PIN could be shown.
			wants := alg != signer.RSAOAEP && alg != signer.ECDHES
			if shown := r.f.Count("C_Login").Calls > before; shown != wants {
				t.Errorf("%s: the PIN was shown: %t, want %t", alg, shown, wants)
			}
		}
	}
}

// Ed25519 is recognised by each of the two names of the curve.
func TestEd25519Params(t *testing.T) {
	r := newRig(t)
	for name, params := range map[string]string{"oid": "\x06\x03\x2b\x65\x70", "name": "\x13\x0cedwards25519"} {
		public := attrs{p11.CKA_EC_PARAMS: []byte(params), p11.CKA_VERIFY: true}.name(name, name)
		r.raw.generate(0x1055, public, attrs{p11.CKA_SIGN: true}.name(name, name)) // CKM_EC_EDWARDS_KEY_PAIR_GEN
		k := mustOpenKey(t, r.b, "pkcs11:object="+name)
		wantAlgs(t, k, signer.EdDSA, signer.Ed25519)
		if err := mustVersion(t, k, signer.EdDSA).Prove(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ed448 := attrs{p11.CKA_EC_PARAMS: []byte("\x06\x03\x2b\x65\x71"), p11.CKA_VERIFY: true}.name("ed448", "ed448")
	r.raw.generate(0x1055, ed448, attrs{p11.CKA_SIGN: true}.name("ed448", "ed448"))
	_, err := r.b.OpenKey(t.Context(), "pkcs11:object=ed448")
	wantError(t, err, signer.ErrUnsupported, "Ed25519")
}

// If the token cannot sign with an Ed25519 key, OpenKey says so.
func TestEdDSAIsMissing(t *testing.T) {
	r := newRig(t)
	public := attrs{p11.CKA_EC_PARAMS: []byte("\x06\x03\x2b\x65\x70"), p11.CKA_VERIFY: true}.name("k", "k")
	r.raw.generate(0x1055, public, attrs{p11.CKA_SIGN: true}.name("k", "k"))
	defer r.f.Inject("C_SignInit * rv=CKR_MECHANISM_INVALID mech=0x1057")()
	_, err := r.b.OpenKey(t.Context(), "pkcs11:object=k")
	wantError(t, err, signer.ErrUnsupported, "EdDSA")
	if strings.Contains(err.Error(), "digest") {
		t.Errorf("%v speaks of a digest", err)
	}
}
