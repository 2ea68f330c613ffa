package signer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/binary"
	"errors"
	"math/big"
	"sync"

	"filippo.io/nistec"
)

// The comb of a p256Verifier. A multiplier has 256 bits: eight teeth of 32 columns,
// which are split into four blocks of eight.
const (
	combTeeth   = 8
	combColumns = 256 / combTeeth
	combBlocks  = 4
	blockWidth  = combColumns / combBlocks
)

// A combTable holds, for one block, the sums of a bit of each tooth taken plus or
// minus. That of the highest tooth is always plus: the other half of the sums are the
// negatives of these. Bit t of the index is set where tooth t is plus.
type combTable [1 << (combTeeth - 1)]nistec.P256Point

// A p256Verifier verifies signatures of one key on P-256, about 2.4 times as fast as
// crypto/ecdsa, from multiples of the public key that it has computed beforehand: 48
// KiB. Its answers are those of crypto/ecdsa. It is safe for concurrent use.
//
// How long it takes depends on its input. It is for public keys, and for digests and
// signatures of which the time may say something.
//
// The multiplication is a comb (Lim and Lee, "More flexible exponentiation with
// precomputation", CRYPTO '94) whose digits are 1 and -1, never 0, as in Hamburg, "Fast
// and compact elliptic-curve cryptography" (ePrint 2012/309).
type p256Verifier struct {
	pub    *ecdsa.PublicKey
	blocks *[combBlocks]combTable // apart: its size is one that the allocator does not round up
}

var (
	p256Order = elliptic.P256().Params().N
	// combOdd and combEven are what is added to an odd and an even multiplier before
	// it is halved: 2^256 - 1, and that less the order.
	combOdd  = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
	combEven = new(big.Int).Sub(combOdd, p256Order)
)

// newP256Verifier computes the multiples of pub, which takes as long as five
// verifications. It is an error if pub is no point of P-256.
func newP256Verifier(pub *ecdsa.PublicKey) (*p256Verifier, error) {
	if pub.Curve != elliptic.P256() {
		return nil, errors.New("the key is not on P-256")
	}
	encoded, err := pub.Bytes()
	if err != nil {
		return nil, err
	}
	q, err := nistec.NewP256Point().SetBytes(encoded)
	if err != nil {
		return nil, err
	}
	var powers [256]nistec.P256Point // 2^i Q
	for i := range powers {
		powers[i].Set(q)
		q.Double(q)
	}
	v := &p256Verifier{pub: pub, blocks: new([combBlocks]combTable)}
	for b := range v.blocks {
		var teeth [combTeeth]*nistec.P256Point
		for t := range teeth {
			teeth[t] = &powers[t*combColumns+b*blockWidth]
		}
		v.blocks[b].fill(&teeth)
	}
	return v, nil
}

// fill computes the sums of teeth: first the one in which each is minus, and each other
// from one in which its highest plus is minus.
func (c *combTable) fill(teeth *[combTeeth]*nistec.P256Point) {
	var p nistec.P256Point
	low := teeth[:combTeeth-1]
	c[0].Set(teeth[combTeeth-1])
	for _, tooth := range low {
		c[0].Add(&c[0], p.Negate(tooth))
	}
	for t, tooth := range low {
		p.Double(tooth)
		for i := range 1 << t {
			c[1<<t+i].Add(&c[i], &p)
		}
	}
}

// A p256Work is what a verification works with: numbers and points that are the next
// one's, too. They are all public.
type p256Work struct {
	r, s, e, u, quo big.Int
	bytes           [32]byte
	sum, base       *nistec.P256Point
}

var (
	p256Works = sync.Pool{New: func() any { return &p256Work{sum: nistec.NewP256Point(), base: nistec.NewP256Point()} }}
	infinity  = nistec.NewP256Point()
)

// verify reports whether sig, r || s of 32 bytes each, is a signature of the key on
// digest (FIPS 186-5 section 6.4.2). Of a digest longer than 32 bytes the rest is
// ignored, as the standard has it.
func (v *p256Verifier) verify(digest, sig []byte) bool {
	if len(sig) != 64 {
		return false
	}
	w, _ := p256Works.Get().(*p256Work)
	defer p256Works.Put(w)
	r, s, e, u, quo := &w.r, &w.s, &w.e, &w.u, &w.quo
	r.SetBytes(sig[:32])
	s.SetBytes(sig[32:])
	if r.Sign() == 0 || s.Sign() == 0 || r.Cmp(p256Order) >= 0 || s.Cmp(p256Order) >= 0 {
		return false
	}
	e.SetBytes(digest[:min(len(digest), 32)])
	s.ModInverse(s, p256Order)
	quo.QuoRem(u.Mul(e, s), p256Order, e) // u1
	quo.QuoRem(u.Mul(r, s), p256Order, s) // u2
	sum := w.sum.Set(infinity)
	v.multiply(sum, s)
	base, err := w.base.ScalarBaseMult(e.FillBytes(w.bytes[:]))
	if err != nil {
		return false
	}
	x, err := sum.Add(sum, base).BytesX()
	if err != nil { // the point at infinity
		return false
	}
	u.SetBytes(x)
	quo.QuoRem(u, p256Order, e)
	return e.Cmp(r) == 0
}

// multiply sets sum, the point at infinity, to k times the public key. It needs 0 <= k
// < n, and changes k.
func (v *p256Verifier) multiply(sum *nistec.P256Point, k *big.Int) {
	const top = 1 << (combTeeth - 1)
	teeth := combDigits(k)
	var negative nistec.P256Point
	for column := blockWidth - 1; column >= 0; column-- {
		sum.Double(sum)
		for b := range v.blocks {
			index := uint32(0)
			for t, tooth := range teeth {
				index |= tooth >> (b*blockWidth + column) & 1 << t
			}
			if index >= top {
				sum.Add(sum, &v.blocks[b][index-top])
			} else {
				sum.Add(sum, negative.Negate(&v.blocks[b][top-1-index]))
			}
		}
	}
}

// combDigits returns 256 bits, the lowest tooth first, such that k modulo n is the sum
// of 2^i where bit i is set, less the sum of 2^i where it is not. That is 2m - (2^256 -
// 1) for bits with the value m, and odd: for an even k it is k - n.
func combDigits(k *big.Int) (teeth [combTeeth]uint32) {
	if k.Bit(0) == 1 {
		k.Add(k, combOdd)
	} else {
		k.Add(k, combEven)
	}
	var m [32]byte
	k.Rsh(k, 1).FillBytes(m[:])
	for t := range teeth {
		teeth[t] = binary.BigEndian.Uint32(m[32-4*(t+1):])
	}
	return teeth
}
