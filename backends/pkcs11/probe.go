//go:build cgo

package pkcs11

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/cryptoki"
	"signetd/signer"
)

// Tokens differ in how they want to be asked for one and the same operation, and do not
// say so. A strategy is one way to ask. When a key is opened each operation is tried with
// one strategy after the other, and the key keeps the first that works.

// A signStrategy is what the token is given to sign with one algorithm.
type signStrategy int

const (
	signDigest  signStrategy = iota + 1 // the digest, made here
	signMessage                         // the message: the token hashes, or the algorithm has no hash
)

// An oaepStrategy is how the token decrypts RSA-OAEP with one hash.
type oaepStrategy int

// The strategies, in the order in which they are tried.
const (
	oaepDecrypt           oaepStrategy = iota + 1 // C_Decrypt with CKM_RSA_PKCS_OAEP
	oaepUnwrap                                    // C_UnwrapKey with that, and the new key is read
	oaepUnwrapUnspecified                         // the same, with a template that does not ask for a key that may be read
	oaepRaw                                       // C_Decrypt with CKM_RSA_X_509, and the padding is decoded here
	oaepHold                                      // C_UnwrapKey, and the content is decrypted in the token
	oaepHoldUnspecified                           // the same, with a template that leaves it to the token whether the key may be read
)

// holdsCEK reports whether the CEK stays in the token.
func (o oaepStrategy) holdsCEK() bool { return o == oaepHold || o == oaepHoldUnspecified }

// mechanism returns the mechanism for one hash.
func (o oaepStrategy) mechanism(hash crypto.Hash) cryptoki.Mechanism {
	if o == oaepRaw {
		return cryptoki.NewMechanism(p11.CKM_RSA_X_509)
	}
	// The source of the label is given although the label is empty: some tokens insist.
	h := cryptoki.Hashes[hash]
	return cryptoki.NewMechanism(p11.CKM_RSA_PKCS_OAEP, h.Mechanism, h.MGF, p11.CKZ_DATA_SPECIFIED, 0, 0)
}

// String says how the token does it and what is left to do here.
func (o oaepStrategy) String() string {
	switch o {
	case oaepDecrypt:
		return "CKM_RSA_PKCS_OAEP"
	case oaepUnwrap, oaepUnwrapUnspecified:
		return "C_UnwrapKey with CKM_RSA_PKCS_OAEP; the new key read and destroyed"
	case oaepRaw:
		return "CKM_RSA_X_509; raw RSA, and the padding decoded here"
	case oaepHold, oaepHoldUnspecified:
		return "C_UnwrapKey with CKM_RSA_PKCS_OAEP, then CKM_AES_GCM; the CEK stays in the token"
	}
	return ""
}

// An agreeStrategy is how the token wants to be asked for ECDH (CKM_ECDH1_DERIVE with
// CKD_NULL).
type agreeStrategy struct {
	point  pointForm       // of the other side
	object cryptoki.Object // that the shared secret becomes, until it is read
}

// A pointForm is how the token wants the other side's point.
type pointForm int

const (
	barePoint pointForm = iota + 1 // uncompressed, as every token should take it (PKCS#11 2.40 Current Mechanisms section 2.3.9)
	derPoint                       // the same in a DER OCTET STRING
)

// A wrapStrategy is how the token wraps keys in one form, and how it unwraps them.
type wrapStrategy struct{ wrap, unwrap wrapStep }

// A wrapStep is how the token does one direction of key wrap.
type wrapStep struct {
	how       wrapHow
	mechanism uint
	access    cryptoki.Access // to the unwrapped key
}

type wrapHow int

const (
	wrapByCipher wrapHow = iota + 1 // C_Encrypt or C_Decrypt with the mechanism, as NSS has it
	wrapByObject                    // C_WrapKey of a session object, or C_UnwrapKey to one, which is read
	wrapByBlocks                    // RFC 3394 and 5649 done here, with CKM_AES_ECB for each block
)

// String says how the token does it.
func (w wrapStep) String() string {
	switch name := cryptoki.MechanismName(w.mechanism); w.how {
	case wrapByCipher:
		return "C_Encrypt and C_Decrypt with " + name
	case wrapByObject:
		return "C_WrapKey and C_UnwrapKey with " + name
	case wrapByBlocks:
		return "CKM_AES_ECB; key wrap done here, block by block"
	}
	return ""
}

// A probe tries the strategies for a key that is being opened. The mechanisms that a token
// lists are not always those that it can use with this key.
type probe struct {
	*session
	h       p11.ObjectHandle
	backend *Backend

	failed bool // a strategy failed on the session
	own    bool // the session is the probe's, not the pool's
}

// run runs f, which uses the key.
func (p *probe) run(f func(*session, p11.ObjectHandle) error) error {
	err := f(p.session, p.h)

	// In some tokens a strategy that fails leaves its operation active, so that the next
	// one needs another session.
	if p.failed && cryptoki.Answered(err, p11.CKR_OPERATION_ACTIVE) {
		if err := p.renew(); err != nil {
			return err
		}
		err = f(p.session, p.h)
	}
	p.failed = p.failed || err != nil

	// NSS answers these two after a logout. While the user is logged in, they mean just
	// what they say.
	if cryptoki.Answered(err, p11.CKR_KEY_TYPE_INCONSISTENT) || cryptoki.Answered(err, p11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT) {
		if in, lost := p.LoggedIn(); lost == nil && in {
			return fmt.Errorf("%w: %v", signer.ErrUnsupported, err) //nolint:errorlint // the session is not lost
		}
	}
	return err
}

// renew goes on with another session.
func (p *probe) renew() error {
	s, err := p.backend.login.OpenSession()
	if err != nil {
		return err
	}
	p.end()
	p.session, p.own = &session{s, p.stamp}, true
	return nil
}

// end closes the session, unless it is the pool's.
func (p *probe) end() {
	if p.own {
		p.Close()
	}
}

// lacks reports whether err means that the token does not have what was tried.
func lacks(err error) bool { return errors.Is(err, signer.ErrUnsupported) && !final(err) }

// final reports whether err ends the probe: the session is lost, or the key is not what it
// should be. Any other error means that the strategy does not work.
func final(err error) bool { return cryptoki.Lost(err) || errors.Is(err, signer.ErrInvalid) }

// probeMessage is what a key signs when it is opened. It cannot be a JWS signing input
// (RFC 7515 section 5.1): those have no spaces.
const probeMessage = "signetd signs this to see that the two halves of the key belong together"

// probeSecret returns 32 random bytes for a key to wrap or encrypt when it is opened.
func probeSecret() []byte {
	secret := make([]byte, sha256.Size)
	rand.Read(secret)
	return secret
}

func digestOf(hash crypto.Hash, message []byte) []byte {
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}
