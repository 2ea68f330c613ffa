package p256

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/binary"
	"errors"
	"math/big"
	"sync"

	"filippo.io/nistec"
)

// The comb of a table. A multiplier has 256 bits: eight teeth of 32 columns, which are
// split into four blocks of eight.
const (
	combTeeth   = 8
	combColumns = 256 / combTeeth
	combBlocks  = 4
	blockWidth  = combColumns / combBlocks
)

// A block holds the sums of a bit of each tooth taken plus or minus. The highest tooth is
// always plus: the other half of the sums are the negatives of these. Bit t of the index is
// set where tooth t is plus.
type block [1 << (combTeeth - 1)]nistec.P256Point

// A table verifies signatures of one key on P-256 from multiples of the public key that were
// computed beforehand: 48 KiB. It is safe for concurrent use.
//
// The time that it takes depends on its input. It is for public keys, and for digests and
// signatures that are not secret.
//
// The multiplication is a comb (Lim and Lee, "More flexible exponentiation with
// precomputation", CRYPTO '94) whose digits are 1 and -1, never 0, as in Hamburg, "Fast
// and compact elliptic-curve cryptography" (ePrint 2012/309).
type table struct {
	blocks *[combBlocks]block // apart: its size is one that the allocator does not round up
}

var (
	order = elliptic.P256().Params().N
	// combOdd and combEven are what is added to an odd and an even multiplier before
	// it is halved: 2^256 - 1, and that less the order.
	combOdd  = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
	combEven = new(big.Int).Sub(combOdd, order)
)

// newTable computes the multiples of pub, which takes as long as five verifications. It is
// an error if pub is not a point of P-256.
func newTable(pub *ecdsa.PublicKey) (*table, error) {
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

	v := &table{new([combBlocks]block)}
	for b := range v.blocks {
		var teeth [combTeeth]*nistec.P256Point
		for t := range teeth {
			teeth[t] = &powers[t*combColumns+b*blockWidth]
		}
		v.blocks[b].fill(&teeth)
	}
	return v, nil
}

// fill computes the sums of teeth: first the sum in which each low tooth is minus, and each
// other sum from the one in which its highest plus is a minus.
func (c *block) fill(teeth *[combTeeth]*nistec.P256Point) {
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

// scratch holds the numbers and points of one verification, for the next one to reuse. All
// of them are public.
type scratch struct {
	r, s, e, u, quo big.Int
	bytes           [32]byte
	sum, base       *nistec.P256Point
}

var (
	scratches = sync.Pool{New: func() any { return &scratch{sum: nistec.NewP256Point(), base: nistec.NewP256Point()} }}
	infinity  = nistec.NewP256Point()
)

// verify reports whether sig, r || s of 32 bytes each, is a signature of the key on digest
// (FIPS 186-5 section 6.4.2). Of a digest longer than 32 bytes the rest is ignored, as the
// standard says.
func (v *table) verify(digest, sig []byte) bool {
	if len(sig) != 64 {
		return false
	}
	w, _ := scratches.Get().(*scratch)
	defer scratches.Put(w)

	r, s, e, u, quo := &w.r, &w.s, &w.e, &w.u, &w.quo
	r.SetBytes(sig[:32])
	s.SetBytes(sig[32:])
	if r.Sign() == 0 || s.Sign() == 0 || r.Cmp(order) >= 0 || s.Cmp(order) >= 0 {
		return false
	}

	e.SetBytes(digest[:min(len(digest), 32)])
	s.ModInverse(s, order)
	quo.QuoRem(u.Mul(e, s), order, e) // u1
	quo.QuoRem(u.Mul(r, s), order, s) // u2

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
	quo.QuoRem(u, order, e)
	return e.Cmp(r) == 0
}

// multiply sets sum, the point at infinity, to k times the public key. It needs 0 <= k
// < n, and changes k.
func (v *table) multiply(sum *nistec.P256Point, k *big.Int) {
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
