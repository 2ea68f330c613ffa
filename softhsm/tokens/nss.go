//go:build linux && cgo

package tokens

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
)

// NewNSS starts NSS softokn. It needs no process, but a string at C_Initialize
// ([pkcs11.Config].InitArgs). It has RSA-OAEP with every hash, and no EdDSA and no
// secp256k1. It never locks a PIN, its serial number is all zeros, and it makes the process
// ignore SIGPIPE. A bad PKCS #1 v1.5 ciphertext gives random bytes. After a C_Logout
// anywhere in the process, the next use of an HMAC or AES key may crash the process: NSS
// reads memory that it has freed.
//
// No program that makes keys can give C_Initialize a string. So Generate makes them in this
// process, and must be called while the module is not initialised.
func NewNSS(tb testing.TB) *Token {
	tb.Helper()
	paths := need(tb, "nss", library("libsoftokn3.so"), []string{"certutil"})
	t := newToken(tb, paths[0], "NSS Certificate DB")

	dir := filepath.Join(tb.TempDir(), "nss")
	if err := os.Mkdir(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := run("", paths[1], "-N", "-d", "sql:"+dir, "-f", t.pinFile); err != nil {
		tb.Fatal(err)
	}

	t.initArgs = fmt.Sprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", dir)
	t.generate = t.keygenHere
	return t
}

// Initialize calls C_Initialize with the string that the token needs, if any.
func (t *Token) Initialize(ctx *p11.Ctx) error {
	if t.initArgs == "" {
		return ctx.Initialize()
	}
	text := append([]byte(t.initArgs), 0)
	var pinner runtime.Pinner // the module reads it during the call, and not later
	pinner.Pin(&text[0])
	defer pinner.Unpin()
	return ctx.Initialize(p11.InitializeWithReserved(unsafe.Pointer(&text[0]))) // #nosec G103 -- pinned
}

// Slot returns the slot that the token is in.
func (t *Token) Slot(ctx *p11.Ctx) (uint, error) {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		if info, err := ctx.GetTokenInfo(slot); err == nil && info.Label == t.label {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("no token %q in slots %v", t.label, slots)
}

// keygenHere makes a key in this process, and leaves the module finalised.
func (t *Token) keygenHere(label string, typ provision.KeyType, use signer.Use) (err error) {
	ctx := p11.New(t.module)
	if ctx == nil {
		return errors.New("the dynamic loader refuses " + t.module)
	}
	if err := t.Initialize(ctx); err != nil {
		return fmt.Errorf("C_Initialize: %w", err)
	}
	defer func() { err = errors.Join(err, ctx.Finalize()) }()

	slot, err := t.Slot(ctx)
	if err != nil {
		return err
	}
	s, err := ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("C_OpenSession: %w", err)
	}
	if err := ctx.Login(s, p11.CKU_USER, t.pin); err != nil {
		return fmt.Errorf("C_Login: %w", err)
	}

	if typ.Secret() {
		mechanism, key := secretTemplate(label, typ, use)
		if _, err := ctx.GenerateKey(s, mechanism, key); err != nil {
			return fmt.Errorf("C_GenerateKey: %w", err)
		}
		return nil
	}
	mechanism, public, private := templates(label, typ, use)
	if _, _, err := ctx.GenerateKeyPair(s, mechanism, public, private); err != nil {
		return fmt.Errorf("C_GenerateKeyPair: %w", err)
	}
	return nil
}

// curves holds CKA_EC_PARAMS: DER object identifiers (RFC 5480 section 2.1.1.1).
var curves = map[provision.KeyType][]byte{
	provision.ECP256: {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07},
	provision.ECP384: {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22},
	provision.ECP521: {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23},
}

// named returns the attributes of every key.
func named(label string) []*p11.Attribute {
	return []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_LABEL, label), p11.NewAttribute(p11.CKA_ID, []byte(label))}
}

// hidden returns the attributes of every private and secret key.
func hidden(label string) []*p11.Attribute {
	return append(named(label), p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_EXTRACTABLE, false))
}

// secretTemplate returns mechanism and template of a secret key, for MACs or for everything
// that AES does.
func secretTemplate(label string, typ provision.KeyType, use signer.Use) (m []*p11.Mechanism, key []*p11.Attribute) {
	mechanism, keyType := uint(p11.CKM_AES_KEY_GEN), uint(p11.CKK_AES)
	if typ == provision.HMAC512 {
		mechanism, keyType = p11.CKM_GENERIC_SECRET_KEY_GEN, p11.CKK_GENERIC_SECRET
	}

	size := map[provision.KeyType]int{provision.HMAC512: 64, provision.AES128: 16, provision.AES192: 24, provision.AES256: 32}[typ]
	key = append(hidden(label), p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, keyType), p11.NewAttribute(p11.CKA_VALUE_LEN, size))
	for _, a := range []uint{p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_WRAP, p11.CKA_UNWRAP} {
		key = append(key, p11.NewAttribute(a, use == signer.UseEnc))
	}
	key = append(key, p11.NewAttribute(p11.CKA_SIGN, use == signer.UseSig))
	return []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, key
}

// templates returns mechanism and templates of a key pair: sensitive, not extractable, and
// either for signatures or for decryption and agreement.
func templates(label string, typ provision.KeyType, use signer.Use) (m []*p11.Mechanism, public, private []*p11.Attribute) {
	sig, enc := use == signer.UseSig, use == signer.UseEnc
	public = append(named(label), p11.NewAttribute(p11.CKA_VERIFY, sig))
	private = append(hidden(label), p11.NewAttribute(p11.CKA_SIGN, sig))

	if oid, ok := curves[typ]; ok {
		private = append(private, p11.NewAttribute(p11.CKA_DERIVE, enc))
		public = append(public, p11.NewAttribute(p11.CKA_EC_PARAMS, oid))
		return []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}, public, private
	}

	public = append(public, p11.NewAttribute(p11.CKA_ENCRYPT, enc))
	private = append(private, p11.NewAttribute(p11.CKA_DECRYPT, enc), p11.NewAttribute(p11.CKA_UNWRAP, enc))
	bits := map[provision.KeyType]int{provision.RSA2048: 2048, provision.RSA3072: 3072, provision.RSA4096: 4096}[typ]
	public = append(public, p11.NewAttribute(p11.CKA_MODULUS_BITS, bits), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	return []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)}, public, private
}
