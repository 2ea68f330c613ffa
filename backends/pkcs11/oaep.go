//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/subtle"
	"encoding/binary"

	"signetd/signer"
)

// decodeOAEP is EME-OAEP decoding with an empty label (RFC 8017 section 7.1.2, step 3),
// for tokens that have only the raw RSA operation. em is as long as the modulus. It is
// wiped.
//
// Whether the first byte, the hash of the label or the padding is wrong must not show, not
// even in the time it takes: one bit of it, asked often enough, opens the ciphertext
// (Manger, CRYPTO 2001). So all three are evaluated for every em, without a branch on any
// of its bytes, and meet in the one branch at the end.
func decodeOAEP(hash crypto.Hash, em []byte) ([]byte, error) {
	defer clear(em)
	n := hash.Size()
	if len(em) < 2*n+2 {
		return nil, signer.ErrDecrypt // depends on public lengths alone
	}
	seed, db := em[1:1+n], em[1+n:]
	maskMGF1(hash, seed, db)
	maskMGF1(hash, db, seed)

	label := hash.New().Sum(nil)
	good := subtle.ConstantTimeByteEq(em[0], 0) & subtle.ConstantTimeCompare(db[:n], label)
	start, separated := afterSeparator(db[n:])
	if good&separated != 1 {
		return nil, signer.ErrDecrypt
	}
	return bytes.Clone(db[n:][start:]), nil
}

// afterSeparator returns where the message M starts in PS || 0x01 || M, where PS is a run
// of zeros that may be empty. ok is 1 if padded has that form and 0 if not.
func afterSeparator(padded []byte) (start, ok int) {
	padding, broken := 1, 0 // padding is 1 while all bytes were zeros
	for i, b := range padded {
		zero, one := subtle.ConstantTimeByteEq(b, 0), subtle.ConstantTimeByteEq(b, 1)
		start = subtle.ConstantTimeSelect(padding&one, i+1, start)
		broken |= padding & (1 ^ (zero | one))
		padding &= zero
	}
	return start, (1 ^ padding) & (1 ^ broken)
}

// maskMGF1 XORs out with the mask that MGF1 makes of seed (RFC 8017 appendix B.2.1).
func maskMGF1(hash crypto.Hash, out, seed []byte) {
	h := hash.New()
	var counter [4]byte
	var mask []byte
	for i := uint32(0); len(out) > 0; i++ {
		binary.BigEndian.PutUint32(counter[:], i)
		h.Reset()
		h.Write(seed)
		h.Write(counter[:])
		mask = h.Sum(mask[:0])
		out = out[subtle.XORBytes(out, out, mask[:min(len(mask), len(out))]):]
	}
	clear(mask)
}
