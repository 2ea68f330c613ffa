//go:build cgo

package provision

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/ThalesGroup/crypto11"
	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/signer"
)

// GenerateKey makes a key pair or a secret key in a token. The private half, or the secret
// key, is sensitive, not extractable and private, and either signs or opens secrets.
// GenerateKey reads back what the token made of that, and destroys the key if the token did
// not obey. It makes one login attempt, and none if that could lock the token.
func GenerateKey(o KeyOptions) (Key, error) {
	if err := o.check(); err != nil {
		return Key{}, err
	}

	if len(o.ID) == 0 {
		o.ID = make([]byte, 16)
		if _, err := rand.Read(o.ID); err != nil {
			return Key{}, err
		}
	}

	var t token
	err := withModule(o.Module, func(ctx *p11.Ctx) (err error) {
		t, err = oneToken(ctx, o.Token, o.Serial)
		return err
	})
	if err != nil {
		return Key{}, err
	}
	if t.Flags&(p11.CKF_USER_PIN_LOCKED|p11.CKF_USER_PIN_FINAL_TRY) != 0 {
		return Key{}, fmt.Errorf("%w: the user PIN of token %q is locked, or the next wrong one locks it: none is tried", signer.ErrUnavailable, t.Label)
	}
	return generateIn(t, o)
}

// generateIn logs in to t by crypto11, and makes the key.
func generateIn(t token, o KeyOptions) (key Key, err error) {
	// By the slot: of several tokens with one label crypto11 takes the first.
	slot := int(t.slot) // #nosec G115 -- crypto11 converts it back
	c, err := crypto11.Configure(&crypto11.Config{Path: o.Module, SlotNumber: &slot, Pin: string(o.PIN), MaxSessions: 4})
	if err != nil {
		return Key{}, fmt.Errorf("%w: token %q: one login attempt was used: %w", signer.ErrUnavailable, t.Label, err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()

	// A session of our own with the library that crypto11 has initialised, for what it
	// cannot do. The process is logged in, and so is the session.
	ctx, err := load(o.Module)
	if err != nil {
		return Key{}, err
	}
	s, err := ctx.OpenSession(t.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return Key{}, fmt.Errorf("C_OpenSession: %w", err)
	}
	defer func() { err = errors.Join(err, ctx.CloseSession(s)) }()

	if err := refuseTaken(ctx, s, o); err != nil {
		return Key{}, err
	}

	var der []byte
	switch types[o.Type].shape {
	case rsaPair, ecPair:
		der, err = generate(c, o)
	case signPair:
		der, err = generatePair(ctx, s, o)
	case hmacSecret, aesSecret:
		err = generateSecret(ctx, s, o)
	}
	if err != nil {
		return Key{}, errors.Join(fmt.Errorf("generate %s: %w", o.Type, err), destroy(ctx, s, o))
	}
	if err := keepOrDestroy(ctx, s, o); err != nil {
		return Key{}, err
	}

	uri := pkcs11.URI{Token: t.Label, Object: o.Label, ID: string(o.ID), Type: pkcs11.TypePrivate}
	if o.Type.Secret() {
		uri.Type = pkcs11.TypeSecret
	}
	return Key{URI: uri.String(), Public: der}, nil
}

// refuseTaken refuses a label or an id that another key in the token has already.
func refuseTaken(ctx *p11.Ctx, s p11.SessionHandle, o KeyOptions) error {
	for name, attr := range map[string]*p11.Attribute{
		"label": p11.NewAttribute(p11.CKA_LABEL, o.Label),
		"id":    p11.NewAttribute(p11.CKA_ID, o.ID),
	} {
		for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY, p11.CKO_SECRET_KEY} {
			found, err := find(ctx, s, p11.NewAttribute(p11.CKA_CLASS, class), attr)
			if err != nil {
				return err
			}

			if len(found) > 0 {
				return fmt.Errorf("%w: the token has a key with this %s already (label %q)", signer.ErrInvalid, name, o.Label)
			}
		}
	}
	return nil
}

// generate makes a key pair of a type that crypto11 has, and returns the public half.
func generate(c *crypto11.Context, o KeyOptions) ([]byte, error) {
	public, err := crypto11.NewAttributeSetWithIDAndLabel(o.ID, []byte(o.Label))
	if err != nil {
		return nil, err
	}
	private := public.Copy()

	// Every use is set: crypto11 would let an RSA key both sign and decrypt.
	public.AddIfNotPresent(publicTemplate(o))
	private.AddIfNotPresent(wantedTemplate(o))

	if bits := types[o.Type].bits; bits > 0 {
		key, err := c.GenerateRSAKeyPairWithAttributes(public, private, bits)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKIXPublicKey(key.Public())
	}

	curve := map[KeyType]elliptic.Curve{ECP256: elliptic.P256(), ECP384: elliptic.P384(), ECP521: elliptic.P521()}[o.Type]
	key, err := c.GenerateECDSAKeyPairWithAttributes(public, private, curve)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(key.Public())
}

// publicTemplate returns the attributes that the public half must have.
func publicTemplate(o KeyOptions) []*p11.Attribute {
	enc := o.Use == signer.UseEnc && types[o.Type].shape == rsaPair
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_PRIVATE, false),
		p11.NewAttribute(p11.CKA_VERIFY, o.Use == signer.UseSig),
		p11.NewAttribute(p11.CKA_ENCRYPT, enc),
		p11.NewAttribute(p11.CKA_WRAP, enc),
	}
}

// An attribute is a CK_BBOOL attribute of a key.
type attribute struct {
	name  string
	typ   uint
	value bool
}

// wanted returns the attributes that the private half, or the secret key, must have.
func wanted(o KeyOptions) []attribute {
	shape := types[o.Type].shape
	opens := o.Use == signer.UseEnc && shape != ecPair

	w := []attribute{
		{"CKA_TOKEN", p11.CKA_TOKEN, true},
		{"CKA_PRIVATE", p11.CKA_PRIVATE, true},
		{"CKA_SENSITIVE", p11.CKA_SENSITIVE, true},
		{"CKA_EXTRACTABLE", p11.CKA_EXTRACTABLE, false},
		{"CKA_SIGN", p11.CKA_SIGN, o.Use == signer.UseSig},
		{"CKA_DECRYPT", p11.CKA_DECRYPT, opens},
		{"CKA_UNWRAP", p11.CKA_UNWRAP, opens},
		{"CKA_DERIVE", p11.CKA_DERIVE, o.Use == signer.UseEnc && shape == ecPair},
	}
	if o.Type.Secret() { // what the public half of a pair does
		w = append(w, attribute{"CKA_ENCRYPT", p11.CKA_ENCRYPT, opens}, attribute{"CKA_WRAP", p11.CKA_WRAP, opens},
			attribute{"CKA_VERIFY", p11.CKA_VERIFY, o.Use == signer.UseSig})
	}
	return w
}

// keepOrDestroy destroys the new key if the token did not make what it was asked for.
func keepOrDestroy(ctx *p11.Ctx, s p11.SessionHandle, o KeyOptions) error {
	err := readBack(ctx, s, o)
	if err == nil {
		return nil
	}
	return errors.Join(err, destroy(ctx, s, o))
}

// readBack returns an error if the token did not make what it was asked for.
func readBack(ctx *p11.Ctx, s p11.SessionHandle, o KeyOptions) error {
	class, what := uint(p11.CKO_PRIVATE_KEY), "private"
	if o.Type.Secret() {
		class, what = p11.CKO_SECRET_KEY, "secret"
	}
	found, err := find(ctx, s, p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_ID, o.ID), p11.NewAttribute(p11.CKA_LABEL, o.Label))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("%w: the token shows %d %s keys where one was generated", signer.ErrUnavailable, len(found), what)
	}

	var wrong []string
	for _, want := range wanted(o) {
		attrs, err := ctx.GetAttributeValue(s, found[0], []*p11.Attribute{p11.NewAttribute(want.typ, nil)})
		if err != nil && !want.value && errors.Is(err, p11.Error(p11.CKR_ATTRIBUTE_TYPE_INVALID)) {
			continue // without the attribute the key cannot do it
		}
		if err != nil {
			return fmt.Errorf("read %s back: %w", want.name, err)
		}
		if !bytes.Equal(attrs[0].Value, p11.NewAttribute(want.typ, want.value).Value) {
			wrong = append(wrong, fmt.Sprintf("%s is not %t", want.name, want.value))
		}
	}

	if len(wrong) > 0 {
		return fmt.Errorf("%w: the token made another key than it was asked for, to be destroyed: %s", signer.ErrUnsupported, strings.Join(wrong, ", "))
	}
	return nil
}

// destroy destroys the key that was just made, if there is one, with both halves of a pair.
func destroy(ctx *p11.Ctx, s p11.SessionHandle, o KeyOptions) error {
	found, err := find(ctx, s, p11.NewAttribute(p11.CKA_ID, o.ID), p11.NewAttribute(p11.CKA_LABEL, o.Label))
	if err != nil {
		return fmt.Errorf("the key is still there: %w", err)
	}
	var errs []error
	for _, h := range found {
		if err := ctx.DestroyObject(s, h); err != nil {
			errs = append(errs, fmt.Errorf("C_DestroyObject: the key is still there: %w", err))
		}
	}
	return errors.Join(errs...)
}

func find(ctx *p11.Ctx, s p11.SessionHandle, template ...*p11.Attribute) (found []p11.ObjectHandle, err error) {
	if err := ctx.FindObjectsInit(s, template); err != nil {
		return nil, fmt.Errorf("C_FindObjectsInit: %w", err)
	}
	defer func() { err = errors.Join(err, ctx.FindObjectsFinal(s)) }()
	found, _, err = ctx.FindObjects(s, 16)
	if err != nil {
		return nil, fmt.Errorf("C_FindObjects: %w", err)
	}
	return found, nil
}
