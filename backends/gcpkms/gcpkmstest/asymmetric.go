package gcpkmstest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	k1 "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"signetd/signer/signertest"
)

// GetPublicKey implements [kmspb.KeyManagementServiceServer].
func (s *service) GetPublicKey(_ context.Context, req *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	v, err := s.server.version(req.GetName())
	if err != nil {
		return nil, err
	}

	switch {
	case v.spec.purpose != signing && v.spec.purpose != decryption:
		return nil, status.Errorf(codes.FailedPrecondition, "%s is of purpose %v and has no public key.", v.key, v.spec.purpose)
	case v.state != kmspb.CryptoKeyVersion_ENABLED:
		return nil, status.Errorf(codes.FailedPrecondition, "%s is not enabled, current state is: %v.", v.name, v.state)
	case v.postQuantum() && req.GetPublicKeyFormat() == kmspb.PublicKey_PUBLIC_KEY_FORMAT_UNSPECIFIED:
		return nil, status.Errorf(codes.InvalidArgument, "public_key_format is required for %v.", v.algorithm)
	case !v.postQuantum() && req.GetPublicKeyFormat() == kmspb.PublicKey_NIST_PQC:
		return nil, status.Errorf(codes.InvalidArgument, "public_key_format NIST_PQC is not supported for %v.", v.algorithm)
	case req.GetPublicKeyFormat() != kmspb.PublicKey_PUBLIC_KEY_FORMAT_UNSPECIFIED && req.GetPublicKeyFormat() != kmspb.PublicKey_NIST_PQC:
		return nil, status.Errorf(codes.Unimplemented, "gcpkmstest has no public_key_format %v.", req.GetPublicKeyFormat())
	}
	return v.publicKey()
}

// postQuantum reports whether requests for the public key of v must name a format.
func (v *version) postQuantum() bool {
	return v.spec.scheme == schemeMLDSA || v.spec.scheme == schemeMu || v.spec.scheme == schemeNone
}

func (v *version) publicKey() (*kmspb.PublicKey, error) {
	if v.postQuantum() {
		var data []byte // empty for schemeNone
		if private, ok := v.secret.(*mldsa.PrivateKey); ok {
			data = private.PublicKey().Bytes()
		}
		return &kmspb.PublicKey{
			Name: v.name, Algorithm: v.algorithm, ProtectionLevel: v.level, PublicKeyFormat: kmspb.PublicKey_NIST_PQC,
			PublicKey: &kmspb.ChecksummedData{Data: data, Crc32CChecksum: checksum(data)},
		}, nil
	}

	der, err := signertest.MarshalPublicKey(public(v.secret))
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return &kmspb.PublicKey{Name: v.name, Pem: string(text), PemCrc32C: checksum(text), Algorithm: v.algorithm, ProtectionLevel: v.level}, nil
}

// public returns the public half of a private key.
func public(private any) crypto.PublicKey {
	switch private := private.(type) {
	case *secp256k1.PrivateKey:
		return private.PubKey().ToECDSA()
	case crypto.Signer:
		return private.Public()
	default:
		return nil
	}
}

// AsymmetricSign implements [kmspb.KeyManagementServiceServer].
func (s *service) AsymmetricSign(_ context.Context, req *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	v, err := s.server.enabled(req.GetName(), signing)
	if err != nil {
		return nil, err
	}
	return v.sign(req)
}

func (v *version) sign(req *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	digest, err := v.toSign(req)
	if err != nil {
		return nil, err
	}

	dataOK, err := verified("data", req.GetData(), req.GetDataCrc32C())
	if err != nil {
		return nil, err
	}
	digestOK, err := verified("digest", sent(req.GetDigest()), req.GetDigestCrc32C())
	if err != nil {
		return nil, err
	}

	sig, err := v.signature(digest)
	if err != nil {
		return nil, err
	}
	return &kmspb.AsymmetricSignResponse{
		Name: v.name, Signature: sig, SignatureCrc32C: checksum(sig), ProtectionLevel: v.level,
		VerifiedDataCrc32C: dataOK, VerifiedDigestCrc32C: digestOK,
	}, nil
}

// sent returns the digest that d holds.
func sent(d *kmspb.Digest) []byte {
	switch d := d.GetDigest().(type) {
	case *kmspb.Digest_Sha256:
		return d.Sha256
	case *kmspb.Digest_Sha384:
		return d.Sha384
	case *kmspb.Digest_Sha512:
		return d.Sha512
	case *kmspb.Digest_ExternalMu:
		return d.ExternalMu
	default:
		return nil
	}
}

// muSize is the length of a mu in bytes (FIPS 204 algorithm 7).
const muSize = 64

// toSign returns what the key signs for a request: a digest, a mu, or all data.
func (v *version) toSign(req *kmspb.AsymmetricSignRequest) ([]byte, error) {
	invalid := func(text string) ([]byte, error) { return nil, status.Error(codes.InvalidArgument, text) }

	data := req.GetData()
	switch {
	case req.GetDigest() != nil && len(data) != 0:
		return invalid("Only one of data and digest may be set.")
	case req.GetDigest() == nil && len(data) == 0:
		return invalid("One of data and digest must be set.")
	case v.spec.scheme == schemeMu:
		if mu := req.GetDigest().GetExternalMu(); len(mu) == muSize {
			return mu, nil
		}
		return invalid("The algorithm of the key signs an external_mu of 64 bytes.")
	case req.GetDigest() != nil && v.spec.hash == 0:
		return invalid("A digest is not supported by the algorithm of the key: set data.")
	case v.spec.scheme == schemeRawPKCS1 && len(data) > v.spec.size/8-11:
		return invalid("The data is too long for the modulus.")
	case v.spec.hash == 0:
		return data, nil
	case len(data) != 0:
		h := v.spec.hash.New()
		h.Write(data)
		return h.Sum(nil), nil
	}

	var digest []byte
	switch v.spec.hash { //nolint:exhaustive // signing keys have no other
	case crypto.SHA256:
		digest = req.GetDigest().GetSha256()
	case crypto.SHA384:
		digest = req.GetDigest().GetSha384()
	case crypto.SHA512:
		digest = req.GetDigest().GetSha512()
	}

	if len(digest) != v.spec.hash.Size() {
		return invalid("The digest is not the one of the algorithm of the key, or has another length.")
	}
	return digest, nil
}

func (v *version) signature(digest []byte) ([]byte, error) {
	switch private := v.secret.(type) {
	case *secp256k1.PrivateKey:
		return k1.Sign(private, digest).Serialize(), nil
	case *rsa.PrivateKey:
		if v.spec.scheme == schemePSS {
			return rsa.SignPSS(rand.Reader, private, v.spec.hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.SignPKCS1v15(rand.Reader, private, v.spec.hash, digest)
	case *ecdsa.PrivateKey:
		return ecdsa.SignASN1(rand.Reader, private, digest)
	case ed25519.PrivateKey:
		return ed25519.Sign(private, digest), nil
	case *mldsa.PrivateKey:
		if v.spec.scheme == schemeMu {
			return private.Sign(rand.Reader, digest, mldsacrypto.MLDSAMu)
		}
		return private.Sign(rand.Reader, digest, nil)
	default:
		return nil, status.Error(codes.Internal, "The key does not sign.")
	}
}

// AsymmetricDecrypt implements [kmspb.KeyManagementServiceServer].
func (s *service) AsymmetricDecrypt(_ context.Context, req *kmspb.AsymmetricDecryptRequest) (*kmspb.AsymmetricDecryptResponse, error) {
	v, err := s.server.enabled(req.GetName(), decryption)
	if err != nil {
		return nil, err
	}
	ok, err := verified("ciphertext", req.GetCiphertext(), req.GetCiphertextCrc32C())
	if err != nil {
		return nil, err
	}

	private, isRSA := v.secret.(*rsa.PrivateKey)
	if !isRSA {
		return nil, status.Error(codes.Internal, "The key does not decrypt.")
	}
	plaintext, err := rsa.DecryptOAEP(v.spec.hash.New(), nil, private, req.GetCiphertext(), nil)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed.")
	}
	return &kmspb.AsymmetricDecryptResponse{
		Plaintext: plaintext, PlaintextCrc32C: checksum(plaintext), VerifiedCiphertextCrc32C: ok, ProtectionLevel: v.level,
	}, nil
}
