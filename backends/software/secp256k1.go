package software

import (
	"crypto"
	"fmt"
	"io"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"signetd/signer"
)

// A k1Key is a private key on secp256k1, with which the standard library does not
// sign.
type k1Key struct{ private *secp256k1.PrivateKey }

// parseK1 reads a private key of 32 bytes whose public half is the point x, y.
func parseK1(d, x, y []byte) (k1Key, bool) {
	var n secp256k1.ModNScalar
	if len(d) != 32 || n.SetByteSlice(d) || n.IsZero() {
		return k1Key{}, false
	}

	pub, ok := signer.ParsePoint(signer.Secp256k1(), append(append([]byte{4}, x...), y...))
	k := k1Key{secp256k1.NewPrivateKey(&n)}
	return k, ok && k.private.PubKey().ToECDSA().Equal(pub)
}

// Public implements [crypto.Signer].
func (k k1Key) Public() crypto.PublicKey { return k.private.PubKey().ToECDSA() }

// Sign implements [crypto.Signer]. The nonce follows from key and digest (RFC 6979).
func (k k1Key) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	if len(digest) != 32 {
		return nil, fmt.Errorf("%w: a digest of %d bytes, not 32", signer.ErrInvalid, len(digest))
	}
	return ecdsa.Sign(k.private, digest).Serialize(), nil
}
