package signer_test

import (
	"testing"

	"signetd/signer"
)

// BenchmarkSignJWS signs a small payload with a software key: what a signature
// costs beside the token, its verification included.
func BenchmarkSignJWS(b *testing.B) {
	payload := []byte(`{"iss":"https://id.example","sub":"alice","aud":"api","exp":1800000900,"iat":1800000000,"jti":"x"}`)
	for ref, algs := range map[string][]signer.Alg{"generate:ec-p256": {signer.ES256}, "generate:rsa-2048": {signer.RS256, signer.PS256}} {
		v := version(b, ref, algs...)
		for _, alg := range algs {
			b.Run(string(alg), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := v.SignJWS(b.Context(), alg, signer.Header{Typ: "JWT"}, payload); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkDecryptJWE opens a small JWE with a software key.
func BenchmarkDecryptJWE(b *testing.B) {
	v := version(b, "generate:rsa-2048", signer.RSAOAEP256)
	jwe, err := v.EncryptJWE(b.Context(), "", signer.Header{}, []byte("a sealed envelope"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		t, err := signer.ParseSealed(jwe)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.DecryptJWE(b.Context(), t, t.Recipients[0]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRawECDSA turns a signature from DER to the form of JOSE.
func BenchmarkRawECDSA(b *testing.B) {
	raw := make([]byte, 64)
	for i := range raw {
		raw[i] = byte(0xff - i)
	}
	der, err := signer.DERECDSA(raw)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := signer.RawECDSA(der, 32); err != nil {
			b.Fatal(err)
		}
	}
}
