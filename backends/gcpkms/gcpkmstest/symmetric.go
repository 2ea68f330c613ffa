package gcpkmstest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"encoding/binary"
	"slices"
	"strconv"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The limits of Encrypt, in bytes: of the plaintext and of the additional data, each, or
// of both together for a key in an HSM.
const (
	maxPlaintext    = 64 << 10
	maxHSMPlaintext = 8 << 10
)

// maxMACData is how long the data for MacSign may be, in bytes. The API names no limit.
const maxMACData = 64 << 10

// MacSign implements [kmspb.KeyManagementServiceServer].
func (s *service) MacSign(_ context.Context, req *kmspb.MacSignRequest) (*kmspb.MacSignResponse, error) {
	v, err := s.server.enabled(req.GetName(), macs)
	if err != nil {
		return nil, err
	}
	return v.mac(req)
}

func (v *version) mac(req *kmspb.MacSignRequest) (*kmspb.MacSignResponse, error) {
	if n := len(req.GetData()); n == 0 || n > maxMACData {
		return nil, status.Errorf(codes.InvalidArgument, "The data has %d bytes, not 1 to %d.", n, maxMACData)
	}

	ok, err := verified("data", req.GetData(), req.GetDataCrc32C())
	if err != nil {
		return nil, err
	}

	mac := v.hmac(req.GetData())
	return &kmspb.MacSignResponse{Name: v.name, Mac: mac, MacCrc32C: checksum(mac), VerifiedDataCrc32C: ok, ProtectionLevel: v.level}, nil
}

func (v *version) hmac(data []byte) []byte {
	secret, _ := v.secret.([]byte) // always, for its purpose
	h := hmac.New(v.spec.hash.New, secret)
	h.Write(data)
	return h.Sum(nil)
}

// MacVerify implements [kmspb.KeyManagementServiceServer].
func (s *service) MacVerify(_ context.Context, req *kmspb.MacVerifyRequest) (*kmspb.MacVerifyResponse, error) {
	v, err := s.server.enabled(req.GetName(), macs)
	if err != nil {
		return nil, err
	}

	dataOK, err := verified("data", req.GetData(), req.GetDataCrc32C())
	if err != nil {
		return nil, err
	}
	macOK, err := verified("mac", req.GetMac(), req.GetMacCrc32C())
	if err != nil {
		return nil, err
	}

	success := hmac.Equal(v.hmac(req.GetData()), req.GetMac())
	return &kmspb.MacVerifyResponse{
		Name: v.name, Success: success, VerifiedSuccessIntegrity: success, VerifiedDataCrc32C: dataOK, VerifiedMacCrc32C: macOK, ProtectionLevel: v.level,
	}, nil
}

// Encrypt implements [kmspb.KeyManagementServiceServer]. The name of a CryptoKey stands
// for its primary version.
func (s *service) Encrypt(_ context.Context, req *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	name := req.GetName()
	if keyName.MatchString(name) {
		var err error
		if name, err = s.server.primary(name); err != nil {
			return nil, err
		}
	}

	v, err := s.server.enabled(name, kmspb.CryptoKey_ENCRYPT_DECRYPT)
	if err != nil {
		return nil, err
	}
	if err := v.fits(req.GetPlaintext(), req.GetAdditionalAuthenticatedData()); err != nil {
		return nil, err
	}

	plaintextOK, err := verified("plaintext", req.GetPlaintext(), req.GetPlaintextCrc32C())
	if err != nil {
		return nil, err
	}
	aadOK, err := verified("additional_authenticated_data", req.GetAdditionalAuthenticatedData(), req.GetAdditionalAuthenticatedDataCrc32C())
	if err != nil {
		return nil, err
	}

	blob, err := v.seal(req.GetPlaintext(), req.GetAdditionalAuthenticatedData())
	if err != nil {
		return nil, err
	}
	return &kmspb.EncryptResponse{
		Name: v.name, Ciphertext: blob, CiphertextCrc32C: checksum(blob), ProtectionLevel: v.level,
		VerifiedPlaintextCrc32C: plaintextOK, VerifiedAdditionalAuthenticatedDataCrc32C: aadOK,
	}, nil
}

// fits returns an error for a plaintext or additional data that is too long.
func (v *version) fits(plaintext, aad []byte) error {
	switch {
	case len(plaintext) > maxPlaintext, len(aad) > maxPlaintext,
		v.level != kmspb.ProtectionLevel_SOFTWARE && len(plaintext)+len(aad) > maxHSMPlaintext:
		return status.Error(codes.InvalidArgument, "The plaintext or the additional authenticated data is too long.")
	}
	return nil
}

func (v *version) gcm() (cipher.AEAD, error) {
	secret, _ := v.secret.([]byte) // always, for its purpose
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal encrypts. The blob begins with the number of the version, by which Decrypt finds
// the version.
func (v *version) seal(plaintext, aad []byte) ([]byte, error) {
	gcm, err := v.gcm()
	if err != nil {
		return nil, err
	}

	n, err := strconv.ParseUint(v.number(), 10, 32)
	if err != nil {
		return nil, err
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(n))
	return gcm.Seal(slices.Clone(head), nil, plaintext, slices.Concat(head, aad)), nil // #nosec G407 -- the AEAD makes a random nonce
}

// Decrypt implements [kmspb.KeyManagementServiceServer]. The ciphertext names the
// version.
func (s *service) Decrypt(_ context.Context, req *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	if _, err := s.server.keyOf(req.GetName()); err != nil {
		return nil, err
	}
	if _, err := verified("ciphertext", req.GetCiphertext(), req.GetCiphertextCrc32C()); err != nil {
		return nil, err
	}
	if _, err := verified("additional_authenticated_data", req.GetAdditionalAuthenticatedData(), req.GetAdditionalAuthenticatedDataCrc32C()); err != nil {
		return nil, err
	}

	bad := status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	blob := req.GetCiphertext()
	if len(blob) < 4 {
		return nil, bad
	}

	name := req.GetName() + "/cryptoKeyVersions/" + strconv.Itoa(int(binary.BigEndian.Uint32(blob)))
	v, err := s.server.enabled(name, kmspb.CryptoKey_ENCRYPT_DECRYPT)
	if status.Code(err) == codes.NotFound {
		return nil, bad
	}
	if err != nil {
		return nil, err
	}

	gcm, err := v.gcm()
	if err != nil {
		return nil, err
	}
	plaintext, err := gcm.Open(nil, nil, blob[4:], slices.Concat(blob[:4], req.GetAdditionalAuthenticatedData()))
	if err != nil {
		return nil, bad
	}

	primary, err := s.server.primary(req.GetName())
	return &kmspb.DecryptResponse{
		Plaintext: plaintext, PlaintextCrc32C: checksum(plaintext), UsedPrimary: err == nil && primary == v.name, ProtectionLevel: v.level,
	}, nil
}
