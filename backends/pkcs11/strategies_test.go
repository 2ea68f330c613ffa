//go:build cgo

package pkcs11_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
	"signetd/softhsm/faultp11"
)

// A token without the mechanisms that sign a digest gets the message.
func TestMessageForm(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.RSA2048, signer.UseSig)
	f := faultp11.New(t, token.Module())
	cfg := token.Config()
	cfg.Module, cfg.Sessions = f.Module(), 1
	b := mustOpen(t, cfg)
	all := []signer.Alg{signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512}

	tests := []struct {
		name  string
		rules []string
		algs  []signer.Alg // all that it still does
		whole []signer.Alg // of these, those that need the message
	}{
		{"no PSS", []string{"C_SignInit * rv=CKR_MECHANISM_INVALID mech=CKM_RSA_PKCS_PSS"}, all, all[3:]},
		{"no PSS, which shows late", []string{"C_Sign * rv=CKR_MECHANISM_INVALID mech=CKM_RSA_PKCS_PSS"}, all, all[3:]},
		{"no PSS, and it leaves the operation active", []string{"C_Sign * rv=CKR_MECHANISM_INVALID leave mech=CKM_RSA_PKCS_PSS"}, all, all[3:]},
		{"no raw PKCS #1", []string{"C_SignInit * rv=CKR_MECHANISM_INVALID mech=CKM_RSA_PKCS"}, all, all[:3]},
		{"neither", []string{"C_SignInit * rv=CKR_MECHANISM_INVALID mech=CKM_RSA_PKCS", "C_SignInit * rv=CKR_MECHANISM_INVALID mech=CKM_RSA_PKCS_PSS"}, all, all},
		{"one hash", []string{
			"C_SignInit * rv=CKR_MECHANISM_INVALID mech=CKM_RSA_PKCS_PSS", "C_SignInit * rv=CKR_MECHANISM_INVALID mech=0x43",
			"C_SignInit * rv=CKR_MECHANISM_INVALID mech=0x45",
		}, append(all[:3:3], signer.PS384), []signer.Alg{signer.PS384}},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer f.Inject(tt.rules...)()
			k := mustOpenKey(t, b, ref)
			wantAlgs(t, k, tt.algs...)
			for _, alg := range tt.whole {
				_, err := k.(signer.Signer).SignContext(t.Context(), digestFor(alg), alg.SignerOpts())
				wantError(t, err, signer.ErrUnsupported, string(alg)+" of a message")
			}
			for _, alg := range tt.algs {
				sig, err := k.(signer.MessageSigner).SignMessageContext(t.Context(), []byte("some signing input"), alg.SignerOpts())
				if err != nil {
					t.Fatalf("%s: %v", alg, err)
				}
				checkSignature(t, k.Public(), alg, digestFor(alg), sig)
			}
		})
	}
}

func TestSignMessageRefuses(t *testing.T) {
	r := newRig(t)
	r.raw.ec(oidP256, "k", "\x01", attrs{p11.CKA_SIGN: true})
	k := mustOpenKey(t, r.b, "pkcs11:object=k").(signer.MessageSigner)
	_, err := k.SignMessageContext(t.Context(), []byte("x"), nil)
	wantError(t, err, signer.ErrUnsupported)
	_, err = k.SignMessageContext(t.Context(), []byte("x"), signer.ES384.SignerOpts())
	wantError(t, err, signer.ErrUnsupported)
}

// unwrapOnly has the attributes of a key-encryption key that can do nothing else.
func unwrapOnly() attrs {
	return attrs{p11.CKA_SIGN: false, p11.CKA_DECRYPT: false, p11.CKA_UNWRAP: true, p11.CKA_EXTRACTABLE: false}
}

func TestWaysToDecrypt(t *testing.T) {
	const (
		byDecrypt = "CKM_RSA_PKCS_OAEP"
		byUnwrap  = "C_UnwrapKey with CKM_RSA_PKCS_OAEP; the new key read and destroyed"
		byHolding = "C_UnwrapKey with CKM_RSA_PKCS_OAEP, then CKM_AES_GCM; the CEK stays in the token"
	)
	both := func() attrs {
		return attrs{p11.CKA_SIGN: false, p11.CKA_DECRYPT: true, p11.CKA_UNWRAP: true, p11.CKA_EXTRACTABLE: false}
	}

	tests := []struct {
		name  string
		key   attrs
		hold  bool
		rules []string
		want  string
	}{
		{"what decrypts and unwraps", both(), false, nil, byDecrypt},
		{"what unwraps and no more", unwrapOnly(), false, nil, byUnwrap},
		{"C_Decrypt refuses", both(), false, []string{"C_DecryptInit * rv=CKR_MECHANISM_INVALID mech=CKM_RSA_PKCS_OAEP"}, byUnwrap},
		{"the template is refused", unwrapOnly(), false, []string{"C_UnwrapKey 1 rv=CKR_ATTRIBUTE_READ_ONLY"}, byHolding}, // a key of no template is sensitive here
		{"no new key can be read", unwrapOnly(), false, []string{"C_UnwrapKey 1-2 rv=CKR_TEMPLATE_INCONSISTENT"}, byHolding},
		{"templates are refused", unwrapOnly(), false, []string{"C_UnwrapKey 1-3 rv=CKR_TEMPLATE_INCONSISTENT"}, byHolding},
		{"the operator wants it held", both(), true, nil, byHolding},
	}
	r := newRig(t)
	holding := r.holding(t)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			label := string(rune('a' + i))
			r.raw.rsa(2048, label, label, tt.key)
			b := r.b
			if tt.hold {
				b = holding
			}
			defer r.f.Inject(tt.rules...)()
			k := mustOpenKey(t, b, "pkcs11:object="+label)
			if got := pkcs11.StrategyOf(k, signer.RSAOAEP); got != tt.want {
				t.Errorf("RSA-OAEP by %q, want %q", got, tt.want)
			}
			holds := k.(signer.ContentDecrypter).HoldsCEK(signer.RSAOAEP)
			if holds != (tt.want == byHolding) {
				t.Errorf("HoldsCEK() = %t", holds)
			}
			ct := encryptTo(t, k.Public(), signer.RSAOAEP, []byte("a key"))
			got, err := k.(signer.Decrypter).DecryptContext(t.Context(), ct, signer.RSAOAEP.DecrypterOpts())
			if holds {
				wantError(t, err, signer.ErrUnsupported, "stays in the token")
			} else if err != nil || string(got) != "a key" {
				t.Errorf("DecryptContext() = %q, %v", got, err)
			}
			r.raw.wantNoSessionKeys()
		})
	}
}

func TestHoldCEKThatCannot(t *testing.T) {
	r := newRig(t)
	r.raw.rsa(2048, "k", "\x01", attrs{p11.CKA_DECRYPT: true, p11.CKA_UNWRAP: false, p11.CKA_SIGN: false})
	_, err := r.holding(t).OpenKey(t.Context(), "pkcs11:object=k")
	wantError(t, err, signer.ErrUnsupported, "hold_cek", "CKA_UNWRAP")
}

// sealedCEK returns the parts of a JWE with a given CEK, whose length need not fit enc.
func sealedCEK(t *testing.T, pub *rsa.PublicKey, cek []byte, enc string) signer.Content {
	t.Helper()
	c := signer.Content{Enc: enc, IV: make([]byte, 12), AAD: []byte("e30")}
	var err error
	if c.EncryptedKey, err = rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, pub, cek, nil); err != nil {
		t.Fatal(err)
	}

	block, err := aes.NewCipher(cek)
	if err != nil {
		return c // no key of AES
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}

	sealed := aead.Seal(nil, c.IV, []byte("a sealed envelope"), c.AAD)
	c.Ciphertext, c.Tag = sealed[:len(sealed)-16], sealed[len(sealed)-16:]
	return c
}

// The CEK stays in the token: its value is never read, and the key that it was unwrapped to
// is destroyed afterwards.
func TestHeldCEK(t *testing.T) {
	r := newRig(t)
	f, raw := r.f, r.raw
	raw.rsa(2048, "inbox", "\x01", unwrapOnly())
	k := mustOpenKey(t, r.holding(t), "pkcs11:object=inbox")
	wantAlgs(t, k, signer.RSAOAEP) // SoftHSM2 has OAEP with SHA-1
	d, pub := k.(signer.ContentDecrypter), k.Public().(*rsa.PublicKey)
	v := mustVersion(t, k, signer.RSAOAEP)
	if err := v.Prove(t.Context()); err != nil {
		t.Error(err)
	}
	for _, enc := range []jose.ContentEncryption{jose.A128GCM, jose.A192GCM, jose.A256GCM} {
		before := f.Counts()
		got, err := openJWE(t, v, encryptByGoJose(t, jose.RSA_OAEP, enc, pub))
		if err != nil || got != envelope {
			t.Errorf("%s: %q, %v", enc, got, err)
		}
		for name, want := range map[string]int{"C_UnwrapKey": 1, "C_GetAttributeValue": 1, "C_Decrypt": 1, "C_DestroyObject": 1} { // the attribute is the length
			if n := f.Count(name).Calls - before[name].Calls; n != want {
				t.Errorf("%s: %s was called %d times, want %d", enc, name, n, want)
			}
		}
	}
	_, err := openJWE(t, v, encryptByGoJose(t, jose.RSA_OAEP, jose.A128CBC_HS256, pub))
	wantError(t, err, signer.ErrUnsupported, "A128CBC-HS256")

	good := sealedCEK(t, pub, make([]byte, 32), "A256GCM")
	if got, err := d.DecryptContent(t.Context(), signer.RSAOAEP, good); err != nil || string(got) != "a sealed envelope" {
		t.Errorf("DecryptContent() = %q, %v", got, err)
	}
	change := func(f func(*signer.Content)) signer.Content { c := good; f(&c); return c }
	flip := func(b []byte) []byte { c := bytes.Clone(b); c[len(c)/2] ^= 1; return c }
	for name, c := range map[string]signer.Content{
		"encrypted key":    change(func(c *signer.Content) { c.EncryptedKey = flip(c.EncryptedKey) }),
		"short key":        change(func(c *signer.Content) { c.EncryptedKey = c.EncryptedKey[1:] }),
		"ciphertext":       change(func(c *signer.Content) { c.Ciphertext = flip(c.Ciphertext) }),
		"no ciphertext":    change(func(c *signer.Content) { c.Ciphertext = nil }),
		"tag":              change(func(c *signer.Content) { c.Tag = flip(c.Tag) }),
		"short tag":        change(func(c *signer.Content) { c.Tag = c.Tag[:4] }),
		"no tag":           change(func(c *signer.Content) { c.Tag = nil }),
		"no IV":            change(func(c *signer.Content) { c.IV = nil }),
		"aad":              change(func(c *signer.Content) { c.AAD = nil }),
		"a CEK of 5 bytes": sealedCEK(t, pub, make([]byte, 5), "A128GCM"),
		"an empty CEK":     sealedCEK(t, pub, nil, "A128GCM"),
	} {
		got, err := d.DecryptContent(t.Context(), signer.RSAOAEP, c)
		if err != signer.ErrDecrypt || got != nil { //nolint:errorlint // it must be bare
			t.Errorf("%s: %q, %v, want ErrDecrypt itself", name, got, err)
		}
	}
	raw.wantNoSessionKeys()
}

// What the token answers about the new key is no more of an oracle than what it answers
// about the ciphertext. If the new key cannot be destroyed, its session is closed.
func TestFaultsOfTheNewKey(t *testing.T) {
	r := newRig(t)
	f, raw := r.f, r.raw
	raw.rsa(2048, "k", "\x01", unwrapOnly())
	keys := map[string]signer.Key{"held": mustOpenKey(t, r.holding(t), "pkcs11:object=k"), "read": mustOpenKey(t, r.b, "pkcs11:object=k")}
	pub := keys["read"].Public().(*rsa.PublicKey)
	use := map[string]func() error{
		"held": func() error {
			_, err := keys["held"].(signer.ContentDecrypter).DecryptContent(t.Context(), signer.RSAOAEP, sealedCEK(t, pub, make([]byte, 32), "A256GCM"))
			return err
		},
		"read": func() error {
			_, err := keys["read"].(signer.Decrypter).DecryptContext(t.Context(), encryptTo(t, pub, signer.RSAOAEP, []byte("x")), signer.RSAOAEP.DecrypterOpts())
			return err
		},
	}

	tests := []struct {
		rule string
		keys string
		want error
	}{
		{"C_UnwrapKey * rv=CKR_GENERAL_ERROR", "held read", signer.ErrDecrypt},
		{"C_UnwrapKey * rv=CKR_WRAPPED_KEY_INVALID", "held read", signer.ErrDecrypt},
		{"C_UnwrapKey * rv=CKR_DEVICE_ERROR", "held read", signer.ErrDecrypt},
		{"C_UnwrapKey 1 rv=CKR_SESSION_HANDLE_INVALID", "held read", nil},
		{"C_UnwrapKey 1 rv=CKR_UNWRAPPING_KEY_HANDLE_INVALID", "held read", nil},
		{"C_UnwrapKey 1 rv=CKR_DEVICE_MEMORY", "held read", nil},
		{"C_GetAttributeValue * rv=CKR_GENERAL_ERROR", "read", signer.ErrDecrypt},
		{"C_GetAttributeValue * rv=CKR_BUFFER_TOO_SMALL", "read", signer.ErrDecrypt},
		{"C_GetAttributeValue * rv=CKR_ATTRIBUTE_SENSITIVE", "read", signer.ErrUnsupported},
		{"C_GetAttributeValue * rv=CKR_ATTRIBUTE_TYPE_INVALID", "held", nil}, // of the length
		{"C_DecryptInit * rv=CKR_KEY_SIZE_RANGE", "held", signer.ErrDecrypt},
		{"C_DecryptInit * rv=CKR_KEY_TYPE_INCONSISTENT", "held", signer.ErrDecrypt},
		{"C_Decrypt * rv=0x42", "held", signer.ErrDecrypt},
		{"C_Decrypt * rv=CKR_GENERAL_ERROR", "held", signer.ErrDecrypt},
		{"C_DestroyObject 1 rv=CKR_GENERAL_ERROR", "held read", nil},
		{"C_DestroyObject 1 rv=CKR_FUNCTION_NOT_SUPPORTED", "held read", nil},
		{"C_DestroyObject 1 rv=CKR_OBJECT_HANDLE_INVALID", "held read", nil},
		{"C_DestroyObject * rv=CKR_ACTION_PROHIBITED", "held read", signer.ErrUnavailable},
	}

	for _, tt := range tests {
		for name := range strings.SplitSeq(tt.keys, " ") {
			t.Run(name+" "+tt.rule, func(t *testing.T) {
				lift := f.Inject(tt.rule)
				err := use[name]()
				lift()
				if !errors.Is(err, tt.want) || tt.want == signer.ErrDecrypt && err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
					t.Errorf("%v, want %v", err, tt.want)
				}
				waitFor(t, func() bool { return use[name]() == nil })
				raw.wantNoSessionKeys()
			})
		}
	}
}
