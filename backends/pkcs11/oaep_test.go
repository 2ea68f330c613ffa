//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"sync"
	"testing"

	"signetd/signer"
)

var oaepHashes = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}

// throwaway returns a key whose private half the test uses, too.
var throwaway = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// encrypt is the raw RSA operation: em to the power of e.
func encrypt(key *rsa.PublicKey, em []byte) []byte {
	c := new(big.Int).Exp(new(big.Int).SetBytes(em), big.NewInt(int64(key.E)), key.N)
	return c.FillBytes(make([]byte, key.Size()))
}

// mask turns Y || seed || DB into an encoded message (RFC 8017 section 7.1.1,
// step 2). If label is set, DB begins with the hash of the empty label.
func mask(hash crypto.Hash, block []byte, label bool) []byte {
	em := bytes.Clone(block)
	seed, db := em[1:1+hash.Size()], em[1+hash.Size():]
	if label {
		copy(db, hash.New().Sum(nil))
	}
	maskMGF1(hash, db, seed)
	maskMGF1(hash, seed, db)
	return em
}

func TestDecodeOAEP(t *testing.T) {
	key := throwaway()
	k := key.Size()
	for _, hash := range oaepHashes {
		n := hash.Size()
		block := func(change func(db []byte)) []byte {
			b := make([]byte, k)
			change(b[1+n:])
			return b
		}
		longest := k - 2*n - 2
		tests := []struct {
			name  string
			block []byte
			label bool
			want  []byte // nil for an error
		}{
			{"a message", block(func(db []byte) { copy(db[k-1-n-4:], "\x01abc") }), true, []byte("abc")},
			{"an empty message", block(func(db []byte) { db[len(db)-1] = 1 }), true, []byte{}},
			{"the longest message", block(func(db []byte) { db[n] = 1 }), true, make([]byte, longest)},
			{"a message of ones", block(func(db []byte) { db[n+3], db[n+4], db[n+5] = 1, 1, 1 }), true, append([]byte{1, 1}, make([]byte, longest-5)...)},
			{"no separator", block(func([]byte) {}), true, nil},
			{"something before the separator", block(func(db []byte) { db[n], db[n+1] = 2, 1 }), true, nil},
			{"another byte as separator", block(func(db []byte) { db[len(db)-2] = 3 }), true, nil},
			{"another label", block(func(db []byte) { db[n] = 1 }), false, nil},
			{"a first byte of 1", func() []byte { b := block(func(db []byte) { db[n] = 1 }); b[0] = 1; return b }(), true, nil},
		}
		for _, tt := range tests {
			t.Run(hash.String()+"/"+tt.name, func(t *testing.T) {
				em := mask(hash, tt.block, tt.label)
				oracle, _ := rsa.DecryptOAEP(hash.New(), nil, key, encrypt(&key.PublicKey, em), nil)
				got, err := decodeOAEP(hash, em)
				if tt.want == nil {
					if err != signer.ErrDecrypt || got != nil || oracle != nil { //nolint:errorlint // it must be bare
						t.Errorf("decodeOAEP = %x, %v, want ErrDecrypt; the oracle says %x", got, err, oracle)
					}
					return
				}
				if err != nil || !bytes.Equal(got, tt.want) || !bytes.Equal(got, oracle) {
					t.Errorf("decodeOAEP = %x, %v, want %x; the oracle says %x", got, err, tt.want, oracle)
				}
				if !bytes.Equal(em, make([]byte, k)) {
					t.Error("the encoded message is not wiped")
				}
			})
		}
	}
}

func TestDecodeOAEPShortKey(t *testing.T) {
	if _, err := decodeOAEP(crypto.SHA512, make([]byte, 2*64+1)); !errors.Is(err, signer.ErrDecrypt) {
		t.Errorf("a modulus too short for the hash: %v, want ErrDecrypt", err)
	}
}

// FuzzOAEPDecode compares the decoder with crypto/rsa, which gets the same encoded message,
// encrypted to a key of the same size.
func FuzzOAEPDecode(f *testing.F) {
	f.Add(byte(1), true, append(make([]byte, 200), 1, 'x'))
	f.Add(byte(0), true, append(make([]byte, 41), 1))
	f.Add(byte(3), false, []byte{1, 2, 3})
	f.Add(byte(2), true, append(make([]byte, 97), 2, 1))
	key := throwaway()
	f.Fuzz(func(t *testing.T, which byte, label bool, content []byte) {
		hash := oaepHashes[int(which)%len(oaepHashes)]
		block := make([]byte, key.Size())
		copy(block, content)
		em := mask(hash, block, label)
		if new(big.Int).SetBytes(em).Cmp(key.N) >= 0 {
			t.Skip("no ciphertext decrypts to it")
		}
		want, wantErr := rsa.DecryptOAEP(hash.New(), nil, key, encrypt(&key.PublicKey, em), nil)
		got, err := decodeOAEP(hash, em)
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Fatalf("decodeOAEP = %x, %v; crypto/rsa says %x, %v", got, err, want, wantErr)
		}
		if err != nil && err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
			t.Fatalf("error %v is not ErrDecrypt itself", err)
		}
	})
}
