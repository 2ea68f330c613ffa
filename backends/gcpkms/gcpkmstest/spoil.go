package gcpkmstest

import (
	"reflect"
	"slices"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// spoil turns a right answer into the wrong one of the given kind.
func (s *Server) spoil(kind Kind, req, resp any) (any, error) {
	switch kind { //nolint:exhaustive // the others change fields, or came before the answer
	case Empty:
		return reflect.New(reflect.TypeOf(resp).Elem()).Interface(), nil
	case AnotherKey:
		return s.anotherKey(req, resp)
	}

	switch r := resp.(type) {
	case *kmspb.PublicKey:
		if key := r.GetPublicKey(); key != nil {
			spoiled(kind, &key.Data, &key.Crc32CChecksum, &r.Name, &r.ProtectionLevel)
		} else {
			pem := []byte(r.GetPem())
			spoiled(kind, &pem, &r.PemCrc32C, &r.Name, &r.ProtectionLevel)
			r.Pem = string(pem)
		}
		if kind == AnotherAlg {
			r.Algorithm = another(r.GetAlgorithm())
		}
	case *kmspb.CryptoKeyVersion:
		spoiled(kind, nil, nil, &r.Name, &r.ProtectionLevel)
		if kind == AnotherAlg {
			r.Algorithm = another(r.GetAlgorithm())
		}
	case *kmspb.AsymmetricSignResponse:
		spoiled(kind, &r.Signature, &r.SignatureCrc32C, &r.Name, &r.ProtectionLevel, &r.VerifiedDigestCrc32C, &r.VerifiedDataCrc32C)
	case *kmspb.AsymmetricDecryptResponse:
		spoiled(kind, &r.Plaintext, &r.PlaintextCrc32C, nil, &r.ProtectionLevel, &r.VerifiedCiphertextCrc32C)
	case *kmspb.MacSignResponse:
		spoiled(kind, &r.Mac, &r.MacCrc32C, &r.Name, &r.ProtectionLevel, &r.VerifiedDataCrc32C)
	case *kmspb.EncryptResponse:
		spoiled(kind, &r.Ciphertext, &r.CiphertextCrc32C, &r.Name, &r.ProtectionLevel, &r.VerifiedPlaintextCrc32C, &r.VerifiedAdditionalAuthenticatedDataCrc32C)
	case *kmspb.DecryptResponse:
		spoiled(kind, &r.Plaintext, &r.PlaintextCrc32C, nil, &r.ProtectionLevel)
	}
	return resp, nil
}

// spoiled changes the fields that kind is about. They are nil where an answer does not
// have them.
func spoiled(kind Kind, result *[]byte, crc **wrapperspb.Int64Value, name *string, level *kmspb.ProtectionLevel, verified ...*bool) {
	switch kind { //nolint:exhaustive // the others change nothing here
	case WrongCRC:
		if crc != nil {
			*crc = wrapperspb.Int64((*crc).GetValue() ^ 1)
		}
	case NoCRC:
		if crc != nil {
			*crc = nil
		}
	case NotVerified:
		for _, v := range verified {
			*v = false
		}
	case WrongName:
		if name != nil {
			*name += "0"
		}
	case WrongLevel:
		if *level != kmspb.ProtectionLevel_SOFTWARE {
			*level = kmspb.ProtectionLevel_SOFTWARE
		} else {
			*level = kmspb.ProtectionLevel_HSM
		}
	case FlippedBit:
		if result != nil && len(*result) > 0 {
			*result = slices.Clone(*result)
			(*result)[len(*result)/2] ^= 1
			*crc = checksum(*result)
		}
	}
}

// another returns an algorithm other than a.
func another(a Algorithm) Algorithm {
	if a == kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256 {
		return kmspb.CryptoKeyVersion_EC_SIGN_P384_SHA384
	}
	return kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256
}

// anotherKey answers a request with a new key of the same algorithm.
func (s *Server) anotherKey(req, resp any) (any, error) {
	n, ok := req.(named)
	if !ok {
		return resp, nil
	}

	v, err := s.version(n.GetName())
	if err != nil {
		return resp, nil //nolint:nilerr // the answer is not about a version
	}

	stranger := v
	if stranger.secret, err = generate(v.spec); err != nil {
		return nil, err
	}

	switch req := req.(type) {
	case *kmspb.GetPublicKeyRequest:
		return stranger.publicKey()
	case *kmspb.AsymmetricSignRequest:
		return stranger.sign(req)
	case *kmspb.MacSignRequest:
		return stranger.mac(req)
	default:
		return resp, nil
	}
}
