package signer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
)

// CheckDigest is what every [Signer] asks before it touches its key: which
// algorithm do pub and opts ask for, and is digest as long as its hash? Tokens
// sign a digest of any length without complaint. For Ed25519, whose hash is 0,
// digest is the message and of any length.
//
// A salt length of rsa.PSSSaltLengthAuto is read as the hash's length, the only
// one that JOSE knows (RFC 7518 section 3.5). Errors are ErrUnsupported and
// ErrInvalid.
func CheckDigest(pub crypto.PublicKey, digest []byte, opts crypto.SignerOpts) (Alg, error) {
	if opts == nil {
		return "", fmt.Errorf("%w: no hash given", ErrUnsupported)
	}
	hash, family := opts.HashFunc(), FamilyPKCS1v15
	switch pub.(type) {
	case *ecdsa.PublicKey:
		family = FamilyECDSA
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
	if family != FamilyEdDSA && len(digest) != hash.Size() {
		return "", fmt.Errorf("%w: %s signs a digest of %d bytes, not %d", ErrInvalid, alg, hash.Size(), len(digest))
	}
	return alg, nil
}

// CheckCiphertext is what every [Decrypter] asks before it touches its key:
// which algorithm does opts ask for, and is ciphertext as long as the modulus
// and smaller in value? Tokens answer a ciphertext that is not with errors that
// look like a lost device. Errors are ErrUnsupported and ErrDecrypt.
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
	key, _ := pub.(*rsa.PublicKey) // find let nothing else through
	n := key.N.FillBytes(make([]byte, key.Size()))
	if len(ciphertext) != len(n) || bytes.Compare(ciphertext, n) >= 0 {
		return "", ErrDecrypt
	}
	return alg, nil
}

// find returns the algorithm of a family and hash that fits pub.
func find(pub crypto.PublicKey, family Family, hash crypto.Hash) (Alg, error) {
	for _, x := range algorithms {
		if x.family == family && x.hash == hash && x.alg.Fits(pub) == nil {
			return x.alg, nil
		}
	}
	return "", fmt.Errorf("%w: no algorithm of JOSE for this key and hash %v", ErrUnsupported, hash)
}
