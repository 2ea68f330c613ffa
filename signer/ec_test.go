package signer_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"testing"

	"signetd/signer"
)

func TestRawECDSA(t *testing.T) {
	tests := []struct {
		name string
		der  string
		size int
		want string // empty: an error
	}{
		{"short integers are padded", "3006020101020102", 4, "0000000100000002"},
		{"a sign byte is dropped", "30080202008002020081", 1, "8081"},
		{"full length", "300802027fff02020101", 2, "7fff0101"},
		{"too long for the curve", "300802027fff02020101", 1, ""},
		{"zero", "3006020100020102", 4, ""},
		{"negative", "3006020180020102", 4, ""},
		{"needless sign byte", "300702020001020102", 4, ""},
		{"trailing byte", "300602010102010200", 4, ""},
		{"trailing byte inside", "300702010102010200", 4, ""},
		{"long form of a short length", "308106020101020102", 4, ""},
		{"indefinite length", "3080020101020102", 4, ""},
		{"one integer", "3003020101", 4, ""},
		{"cut short", "30060201010201", 4, ""},
		{"a set", "3106020101020102", 4, ""},
		{"empty", "", 4, ""},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			der, err := hex.DecodeString(tt.der)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := signer.RawECDSA(der, tt.size)
			if got := hex.EncodeToString(raw); got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("RawECDSA(%s, %d) = %s, %v; want %s", tt.der, tt.size, got, err, tt.want)
			}
		})
	}
}

// FuzzRawECDSA holds DER to raw and back against encoding/asn1.
func FuzzRawECDSA(f *testing.F) {
	for _, s := range []string{"3006020101020102", "30080202008002020081", "308106020101020102", "3003020101"} {
		der, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}

	f.Fuzz(func(t *testing.T, der []byte) {
		const size = 66
		raw, err := signer.RawECDSA(der, size)
		var rs struct{ R, S *big.Int }
		rest, aerr := asn1.Unmarshal(der, &rs)
		valid := aerr == nil && len(rest) == 0 && rs.R.Sign() > 0 && rs.S.Sign() > 0 && rs.R.BitLen() <= 8*size && rs.S.BitLen() <= 8*size
		if valid {
			again, merr := asn1.Marshal(rs) // encoding/asn1 takes some lengths that are no DER
			valid = merr == nil && bytes.Equal(again, der)
		}
		if valid != (err == nil) {
			t.Fatalf("RawECDSA(%x) = %v, but encoding/asn1 says valid = %v", der, err, valid)
		}
		if err != nil {
			return
		}
		if new(big.Int).SetBytes(raw[:size]).Cmp(rs.R) != 0 || new(big.Int).SetBytes(raw[size:]).Cmp(rs.S) != 0 {
			t.Fatalf("RawECDSA(%x) = %x, want %x and %x", der, raw, rs.R, rs.S)
		}
		back, err := signer.DERECDSA(raw)
		if err != nil || !bytes.Equal(back, der) {
			t.Fatalf("DERECDSA(RawECDSA(%x)) = %x, %v", der, back, err)
		}
	})
}

// FuzzDERECDSA holds raw to DER and back.
func FuzzDERECDSA(f *testing.F) {
	f.Add([]byte{1, 2})
	f.Add(bytes.Repeat([]byte{0xff}, 132))
	f.Fuzz(func(t *testing.T, raw []byte) {
		der, err := signer.DERECDSA(raw)
		if err != nil {
			return
		}
		back, err := signer.RawECDSA(der, len(raw)/2)
		if err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("RawECDSA(DERECDSA(%x)) = %x, %v", raw, back, err)
		}
	})
}
