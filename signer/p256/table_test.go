package p256

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/nistec"

	"signetd/signer"
)

// A keyTable is a table with its key.
type keyTable struct {
	*table
	pub *ecdsa.PublicKey
}

// bothVerify asks a table and crypto/ecdsa, and fails unless they agree.
func bothVerify(t *testing.T, v keyTable, digest, sig []byte) bool {
	t.Helper()
	want := len(sig) == 64 && ecdsa.Verify(v.pub, digest, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	if got := v.verify(digest, sig); got != want {
		t.Fatalf("verify(%x, %x) = %v, crypto/ecdsa says %v; the key is %v", digest, sig, got, want, v.pub)
	}
	return want
}

func verifierOf(t *testing.T, pub *ecdsa.PublicKey) keyTable {
	t.Helper()
	v, err := newTable(pub)
	if err != nil {
		t.Fatal(err)
	}
	return keyTable{v, pub}
}

// multiple returns k times the generator; k is taken modulo the order.
func multiple(t *testing.T, k *big.Int) *nistec.P256Point {
	t.Helper()
	p, err := nistec.NewP256Point().ScalarBaseMult(bytes32(modOrder(k)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func publicOf(t *testing.T, q *nistec.P256Point) *ecdsa.PublicKey {
	t.Helper()
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), q.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

func modOrder(k *big.Int) *big.Int { return new(big.Int).Mod(k, order) }

func bytes32(k *big.Int) []byte { return k.FillBytes(make([]byte, 32)) }

func rawOf(r, s *big.Int) []byte { return append(bytes32(r), bytes32(s)...) }

func randomScalar(t *testing.T) *big.Int {
	t.Helper()
	k, err := rand.Int(rand.Reader, new(big.Int).Sub(order, big.NewInt(1)))
	if err != nil {
		t.Fatal(err)
	}
	return k.Add(k, big.NewInt(1))
}

// craft returns the digest and the signature, by the private key d, whose verification
// adds u1 G and u2 Q. It reports false if the sum has no x that could be r: then
// nothing is a signature, and r is 1.
func craft(t *testing.T, d, u1, u2 *big.Int) (digest, sig []byte, ok bool) {
	t.Helper()
	r := big.NewInt(1)
	if x, err := multiple(t, new(big.Int).Add(u1, new(big.Int).Mul(u2, d))).BytesX(); err == nil {
		r, ok = modOrder(new(big.Int).SetBytes(x)), true
	}
	s := modOrder(new(big.Int).Mul(r, new(big.Int).ModInverse(u2, order)))
	e := modOrder(new(big.Int).Mul(u1, s))
	return bytes32(e), rawOf(r, s), ok
}

// TestP256Verify compares the table with crypto/ecdsa on signatures by random keys,
// on their twins with n - s, and on what they become when bits change.
func TestP256Verify(t *testing.T) {
	for i := range 24 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		v := verifierOf(t, &key.PublicKey)
		for _, size := range []int{0, 1, 20, 31, 32, 33, 48, 64} {
			digest := make([]byte, size)
			rand.Read(digest)
			r, s, err := ecdsa.Sign(rand.Reader, key, digest)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []*big.Int{s, new(big.Int).Sub(order, s)} {
				if !bothVerify(t, v, digest, rawOf(r, s)) {
					t.Fatalf("a signature on %d bytes does not verify", size)
				}
			}
			for bit := i; bit < 512; bit += 24 { // each bit once in all keys
				sig := rawOf(r, s)
				sig[bit/8] ^= 1 << (bit % 8)
				if bothVerify(t, v, digest, sig) {
					t.Fatalf("with bit %d changed it still verifies", bit)
				}
			}
			if size > 0 {
				digest[0] ^= 1
				bothVerify(t, v, digest, rawOf(r, s))
			}
		}
	}
}

// TestP256VerifyRange has r and s at and beyond the borders of what they may be, and
// signatures that are too short or too long.
func TestP256VerifyRange(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v := verifierOf(t, &key.PublicKey)
	digest := sha256.Sum256([]byte("message"))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	edges := []*big.Int{r, s, combOdd, elliptic.P256().Params().P}
	for i := int64(-2); i <= 2; i++ {
		edges = append(edges, new(big.Int).Add(order, big.NewInt(i)), big.NewInt(i&3))
	}

	for _, a := range edges {
		for _, b := range edges {
			if got, want := bothVerify(t, v, digest[:], rawOf(a, b)), a == r && b == s; got != want {
				t.Errorf("r = %x, s = %x verifies: %v", a, b, got)
			}
		}
	}

	sig := rawOf(r, s)
	for _, sig := range [][]byte{nil, sig[:32], sig[:63], append([]byte{0}, sig...), append(sig, 0), append(sig, sig...)} {
		if bothVerify(t, v, digest[:], sig) {
			t.Errorf("a signature of %d bytes verifies", len(sig))
		}
	}
}

// TestP256VerifyCases has keys that are small multiples of the generator, and
// multipliers, by which sums meet equal points, opposite points and infinity.
func TestP256VerifyCases(t *testing.T) {
	one := big.NewInt(1)
	keys := []*big.Int{one, big.NewInt(2), big.NewInt(3), big.NewInt(7), new(big.Int).Sub(order, one), new(big.Int).Sub(order, big.NewInt(2)), randomScalar(t)}
	multipliers := []*big.Int{randomScalar(t), new(big.Int).Sub(order, one), new(big.Int).Rsh(order, 1)}
	for i := range uint(256) {
		power := new(big.Int).Lsh(one, i)
		multipliers = append(multipliers, modOrder(power))
		if i%8 == 3 {
			multipliers = append(multipliers, modOrder(new(big.Int).Sub(power, one)), modOrder(new(big.Int).Neg(power)))
		}
	}

	for _, word := range []string{"00000001", "ffffffff", "01010101", "80000000", "00ff00ff", "aaaaaaaa"} {
		k, _ := new(big.Int).SetString(word+word+word+word+word+word+word+word, 16)
		multipliers = append(multipliers, modOrder(k))
	}

	for _, d := range keys {
		v := verifierOf(t, publicOf(t, multiple(t, d)))
		for i, u2 := range multipliers {
			same := new(big.Int).Mul(u2, d)
			for name, u1 := range map[string]*big.Int{
				"u1 = 0": new(big.Int), "u1 = 1": one, "u1 G = u2 Q": same, "u1 G = -u2 Q": new(big.Int).Neg(same),
			} {
				digest, sig, ok := craft(t, d, u1, u2)
				if bothVerify(t, v, digest, sig) != ok {
					t.Errorf("d = %v, multiplier %d, %s: verifies: %v", d, i, name, !ok)
				}
			}
		}
	}
}

// keyFor returns the verifier of the key for which r and s are a signature on digest,
// r being the x of point: Q = (s R - e G) / r.
func keyFor(t *testing.T, point *nistec.P256Point, r, s *big.Int, digest []byte) keyTable {
	t.Helper()
	q, err := nistec.NewP256Point().ScalarMult(point, bytes32(s))
	if err != nil {
		t.Fatal(err)
	}
	eG := multiple(t, new(big.Int).SetBytes(digest))
	q.Add(q, eG.Negate(eG))
	if q, err = q.ScalarMult(q, bytes32(new(big.Int).ModInverse(r, order))); err != nil {
		t.Fatal(err)
	}
	return verifierOf(t, publicOf(t, q))
}

// TestP256VerifyLargeX has a point whose x is not less than the order, so that r is
// what remains, and r + n where the point has it.
func TestP256VerifyLargeX(t *testing.T) {
	r := big.NewInt(1)
	point := nistec.NewP256Point()
	for ; ; r.Add(r, big.NewInt(1)) {
		if _, err := point.SetBytes(append([]byte{2}, bytes32(new(big.Int).Add(order, r))...)); err == nil {
			break
		}
	}

	digest := sha256.Sum256([]byte("message"))
	s := randomScalar(t)
	v := keyFor(t, point, r, s, digest[:])
	if !bothVerify(t, v, digest[:], rawOf(r, s)) {
		t.Error("a signature whose point has x = r + n does not verify")
	}
	if bothVerify(t, v, digest[:], rawOf(new(big.Int).Add(r, order), s)) {
		t.Error("r + n verifies")
	}
}

// TestP256VerifySmallS has an s so small that s + n, which must not verify, has 256
// bits.
func TestP256VerifySmallS(t *testing.T) {
	point := multiple(t, randomScalar(t))
	x, err := point.BytesX()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	r, s := modOrder(new(big.Int).SetBytes(x)), big.NewInt(5)
	v := keyFor(t, point, r, s, digest[:])
	if !bothVerify(t, v, digest[:], rawOf(r, s)) {
		t.Error("a signature with s = 5 does not verify")
	}
	if bothVerify(t, v, digest[:], rawOf(r, new(big.Int).Add(s, order))) {
		t.Error("s + n verifies")
	}
}

// TestNewTableRefuses has keys on other curves, and keys that are not points.
func TestNewTableRefuses(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, pub := range []*ecdsa.PublicKey{
		&p384.PublicKey,
		{Curve: signer.Secp256k1(), X: big.NewInt(1), Y: big.NewInt(1)},
		{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)},
		{Curve: elliptic.P256(), X: new(big.Int), Y: new(big.Int)},
	} {
		if _, err := newTable(pub); err == nil {
			t.Errorf("newTable(%v) = nil error", pub)
		}
	}
}

// TestWycheproofP256 runs the vectors for r || s in the folder that WYCHEPROOF names.
func TestWycheproofP256(t *testing.T) {
	dir := os.Getenv("WYCHEPROOF")
	if dir == "" {
		t.Skip("WYCHEPROOF names no folder with Wycheproof's testvectors_v1; make wycheproof")
	}
	data, err := os.ReadFile(filepath.Join(dir, "ecdsa_secp256r1_sha256_p1363_test.json"))
	if os.IsNotExist(err) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		TestGroups []struct {
			PublicKey struct{ Uncompressed string }
			Tests     []struct {
				ID               int `json:"tcId"`
				Msg, Sig, Result string
			}
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, g := range file.TestGroups {
		pub, ok := signer.ParsePoint(elliptic.P256(), unhex(t, g.PublicKey.Uncompressed))
		if !ok {
			t.Fatalf("%s is no point", g.PublicKey.Uncompressed)
		}
		v := verifierOf(t, pub)
		for _, tt := range g.Tests {
			digest := sha256.Sum256(unhex(t, tt.Msg))
			if got := bothVerify(t, v, digest[:], unhex(t, tt.Sig)); got != (tt.Result == "valid") {
				t.Errorf("%d: verifies: %v, and is %s", tt.ID, got, tt.Result)
			}
			ran++
		}
	}
	if ran == 0 {
		t.Error("no vector was run")
	}
	t.Logf("%d vectors", ran)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzP256Verify compares the table with crypto/ecdsa: on the input itself, and on
// signatures whose u1 and u2 are chosen by the input.
func FuzzP256Verify(f *testing.F) {
	encoded := order.Bytes()
	f.Add([]byte{1}, []byte{}, []byte{1}, []byte{1})
	f.Add([]byte{2}, bytes.Repeat([]byte{0xff}, 64), encoded, []byte{1})
	f.Add(encoded[:31], encoded, bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{0x80}, 32))
	f.Fuzz(func(t *testing.T, key, digest, a, b []byte) {
		d := modOrder(new(big.Int).SetBytes(key))
		u1, u2 := modOrder(new(big.Int).SetBytes(a)), modOrder(new(big.Int).SetBytes(b))
		if d.Sign() == 0 {
			return
		}
		v := verifierOf(t, publicOf(t, multiple(t, d)))
		bothVerify(t, v, digest, append(bytes.Clone(a), b...))
		bothVerify(t, v, digest, rawOf(u1, u2))
		if u2.Sign() == 0 {
			return
		}
		crafted, sig, ok := craft(t, d, u1, u2)
		if bothVerify(t, v, crafted, sig) != ok {
			t.Fatalf("d = %x, u1 = %x, u2 = %x: crafted a signature: %v", d, u1, u2, ok)
		}
	})
}
