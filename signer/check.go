package signer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
)

// CheckDigest is for every [Signer] to call before it uses its key. It returns the
// algorithm that pub and opts ask for, and checks that digest is as long as the hash of
// that: tokens sign a digest of any length without complaint. For Ed25519 and ML-DSA,
// whose hash is 0, digest is the message, of any length.
//
// A salt length of rsa.PSSSaltLengthAuto means the length of the hash, the only one that
// JOSE has (RFC 7518 section 3.5). Errors are ErrUnsupported and ErrInvalid.
func CheckDigest(pub crypto.PublicKey, digest []byte, opts crypto.SignerOpts) (Alg, error) {
	if opts == nil {
		return "", fmt.Errorf("%w: no hash given", ErrUnsupported)
	}

	hash, family := opts.HashFunc(), FamilyPKCS1v15
	switch pub.(type) {
	case *ecdsa.PublicKey:
		family = FamilyECDSA
	case *AKP:
		family = FamilyMLDSA
	case ed25519.PublicKey:
		family = FamilyEdDSA
		if o, ok := opts.(*ed25519.Options); ok && o.Context != "" {
			return "", fmt.Errorf("%w: Ed25519 with a context (JOSE has none)", ErrUnsupported)
		}
	}

	if pss, ok := opts.(*rsa.PSSOptions); ok {
		family = FamilyPSS
		if n := pss.SaltLength; n != rsa.PSSSaltLengthEqualsHash && n != rsa.PSSSaltLengthAuto && (hash == 0 || n != hash.Size()) {
			return "", fmt.Errorf("%w: a PSS salt is as long as the hash (RFC 7518 section 3.5), not %d", ErrUnsupported, n)
		}
	}

	alg, err := find(pub, family, hash)
	if err != nil {
		return "", err
	}
	if family != FamilyEdDSA && family != FamilyMLDSA && len(digest) != hash.Size() {
		return "", fmt.Errorf("%w: %s signs a digest of %d bytes, not %d", ErrInvalid, alg, hash.Size(), len(digest))
	}
	return alg, nil
}

// CheckCiphertext is for every [Decrypter] to call before it uses its key. It returns the
// algorithm that opts ask for, and checks that ciphertext is as long as the modulus and
// smaller in value: if it is not, tokens answer with errors that look like a lost device.
// Errors are ErrUnsupported and ErrDecrypt.
func CheckCiphertext(pub crypto.PublicKey, ciphertext []byte, opts crypto.DecrypterOpts) (Alg, error) {
	oaep, ok := opts.(*rsa.OAEPOptions)
	if !ok {
		return "", fmt.Errorf("%w: decryption options of type %T", ErrUnsupported, opts)
	}
	if len(oaep.Label) != 0 {
		return "", fmt.Errorf("%w: OAEP labels (JWE has none)", ErrUnsupported)
	}
	if oaep.MGFHash != 0 && oaep.MGFHash != oaep.Hash {
		return "", fmt.Errorf("%w: an OAEP mask hash other than the hash", ErrUnsupported)
	}

	alg, err := find(pub, FamilyOAEP, oaep.Hash)
	if err != nil {
		return "", err
	}
	key, _ := pub.(*rsa.PublicKey) // for another key find returns an error
	if !FitsModulus(key, ciphertext) {
		return "", ErrDecrypt
	}
	return alg, nil
}

// FitsModulus reports whether ciphertext is as long as the modulus of key and smaller in
// value. It is for a [SessionKeyDecrypter], whose ciphertexts need no other check.
func FitsModulus(key *rsa.PublicKey, ciphertext []byte) bool {
	n := key.N.FillBytes(make([]byte, key.Size()))
	return len(ciphertext) == len(n) && bytes.Compare(ciphertext, n) < 0
}

// CheckMAC is for every [MACer] to call before it uses its key. It returns the algorithm
// that key and hash ask for, and refuses a key that is shorter than the hash, which tokens
// do not. Errors are ErrUnsupported.
func CheckMAC(key crypto.PublicKey, hash crypto.Hash) (Alg, error) {
	return find(key, FamilyHMAC, hash)
}

// CheckWrap is for every [Wrapper] to call before it wraps key. Errors are ErrInvalid and
// ErrUnsupported.
func CheckWrap(form WrapForm, key []byte) error {
	switch n := len(key); {
	case form != WrapRFC3394 && form != WrapRFC5649:
		return fmt.Errorf("%w: form %d of key wrap", ErrUnsupported, form)
	case n > maxWrapped:
		return fmt.Errorf("%w: a key of %d bytes to be wrapped: %d at most", ErrInvalid, n, maxWrapped)
	case form == WrapRFC3394 && (n < 16 || n%8 != 0):
		return fmt.Errorf("%w: AES key wrap takes a multiple of 8 bytes, 16 or more, not %d", ErrInvalid, n)
	case n == 0:
		return fmt.Errorf("%w: the key to be wrapped is empty", ErrInvalid)
	}
	return nil
}

// CheckWrapped is for every [Wrapper] to call before it unwraps wrapped. Errors are
// ErrDecrypt and ErrUnsupported.
func CheckWrapped(form WrapForm, wrapped []byte) error {
	least := 24
	if form == WrapRFC5649 {
		least = 16
	} else if form != WrapRFC3394 {
		return fmt.Errorf("%w: form %d of key wrap", ErrUnsupported, form)
	}
	if n := len(wrapped); n < least || n%8 != 0 || n > maxWrapped+8 {
		return ErrDecrypt
	}
	return nil
}

// maxWrapped bounds the keys that are wrapped, in bytes: an RSA key of 16384 bits in PKCS #8
// is shorter. A token that wraps block by block needs six calls for each 8 bytes.
const maxWrapped = 16384

// CheckSealed is for every [AEAD] to call before it opens sealed: tokens accept an empty IV
// and an empty tag. Its error is ErrDecrypt.
func CheckSealed(iv, sealed []byte) error {
	if len(iv) != GCMIVSize || len(sealed) < GCMTagSize {
		return ErrDecrypt
	}
	return nil
}
