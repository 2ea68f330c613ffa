package gcpkmstest_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"hash/crc32"
	"testing"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"signetd/backends/gcpkms/gcpkmstest"
)

// dial returns a client that uses nothing of Google's library, over a connection in
// memory.
func dial(t *testing.T, kms *gcpkmstest.Server) (kmspb.KeyManagementServiceClient, iampb.IAMPolicyClient) {
	t.Helper()
	conn, err := kms.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return kmspb.NewKeyManagementServiceClient(conn), iampb.NewIAMPolicyClient(conn)
}

func crc(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))))
}

func sha256Digest(digest []byte) *kmspb.Digest {
	return &kmspb.Digest{Digest: &kmspb.Digest_Sha256{Sha256: digest}}
}

// TestSignRefuses sends the requests to sign that Google refuses.
func TestSignRefuses(t *testing.T) {
	kms := gcpkmstest.New(t)
	client, _ := dial(t, kms)
	ec := kms.CreateVersion(kms.CreateKey("ec", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256))
	ed := kms.CreateVersion(kms.CreateKey("ed", kmspb.CryptoKeyVersion_EC_SIGN_ED25519))
	raw := kms.CreateVersion(kms.CreateKey("raw", kmspb.CryptoKeyVersion_RSA_SIGN_RAW_PKCS1_2048))
	mac := kms.CreateVersion(kms.CreateKey("mac", kmspb.CryptoKeyVersion_HMAC_SHA256))
	pq := kms.CreateVersion(kms.CreateKey("pq", kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_44))
	mu := kms.CreateVersion(kms.CreateKey("mu", kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_44_EXTERNAL_MU))
	external := func(size int) *kmspb.Digest {
		return &kmspb.Digest{Digest: &kmspb.Digest_ExternalMu{ExternalMu: make([]byte, size)}}
	}
	digest, long := sha256.Sum256([]byte("x")), sha512.Sum384([]byte("x"))

	tests := []struct {
		name string
		req  *kmspb.AsymmetricSignRequest
		want codes.Code
	}{
		{"a digest", &kmspb.AsymmetricSignRequest{Name: ec, Digest: sha256Digest(digest[:])}, codes.OK},
		{"data of a key that takes digests", &kmspb.AsymmetricSignRequest{Name: ec, Data: []byte("x")}, codes.OK},
		{"both", &kmspb.AsymmetricSignRequest{Name: ec, Digest: sha256Digest(digest[:]), Data: []byte("x")}, codes.InvalidArgument},
		{"neither", &kmspb.AsymmetricSignRequest{Name: ec}, codes.InvalidArgument},
		{"another hash", &kmspb.AsymmetricSignRequest{Name: ec, Digest: &kmspb.Digest{Digest: &kmspb.Digest_Sha384{Sha384: long[:]}}}, codes.InvalidArgument},
		{"a short digest", &kmspb.AsymmetricSignRequest{Name: ec, Digest: sha256Digest(digest[:31])}, codes.InvalidArgument},
		{"a long digest", &kmspb.AsymmetricSignRequest{Name: ec, Digest: sha256Digest(long[:])}, codes.InvalidArgument},
		{"a digest for Ed25519", &kmspb.AsymmetricSignRequest{Name: ed, Digest: sha256Digest(digest[:])}, codes.InvalidArgument},
		{"data for Ed25519", &kmspb.AsymmetricSignRequest{Name: ed, Data: []byte("x")}, codes.OK},
		{"data for ML-DSA", &kmspb.AsymmetricSignRequest{Name: pq, Data: []byte("x")}, codes.OK},
		{"a digest for ML-DSA", &kmspb.AsymmetricSignRequest{Name: pq, Digest: sha256Digest(digest[:])}, codes.InvalidArgument},
		{"a mu for ML-DSA that takes data", &kmspb.AsymmetricSignRequest{Name: pq, Digest: external(64)}, codes.InvalidArgument},
		{"a mu", &kmspb.AsymmetricSignRequest{Name: mu, Digest: external(64)}, codes.OK},
		{"a short mu", &kmspb.AsymmetricSignRequest{Name: mu, Digest: external(63)}, codes.InvalidArgument},
		{"data for ML-DSA that takes a mu", &kmspb.AsymmetricSignRequest{Name: mu, Data: []byte("x")}, codes.InvalidArgument},
		{"a mu for ECDSA", &kmspb.AsymmetricSignRequest{Name: ec, Digest: external(64)}, codes.InvalidArgument},
		{"a digest for a raw key", &kmspb.AsymmetricSignRequest{Name: raw, Digest: sha256Digest(digest[:])}, codes.InvalidArgument},
		{"data as long as a raw key takes", &kmspb.AsymmetricSignRequest{Name: raw, Data: make([]byte, 245)}, codes.OK},
		{"data too long for a raw key", &kmspb.AsymmetricSignRequest{Name: raw, Data: make([]byte, 246)}, codes.InvalidArgument},
		{"a wrong digest CRC", &kmspb.AsymmetricSignRequest{Name: ec, Digest: sha256Digest(digest[:]), DigestCrc32C: crc([]byte("y"))}, codes.InvalidArgument},
		{"a wrong data CRC", &kmspb.AsymmetricSignRequest{Name: ed, Data: []byte("x"), DataCrc32C: crc([]byte("y"))}, codes.InvalidArgument},
		{"a MAC key", &kmspb.AsymmetricSignRequest{Name: mac, Digest: sha256Digest(digest[:])}, codes.FailedPrecondition},
		{"no name", &kmspb.AsymmetricSignRequest{Name: "x", Data: []byte("x")}, codes.InvalidArgument},
		{"no key", &kmspb.AsymmetricSignRequest{Name: gcpkmstest.KeyRing + "/cryptoKeys/none/cryptoKeyVersions/1", Data: []byte("x")}, codes.NotFound},
		{"no version", &kmspb.AsymmetricSignRequest{Name: ec + "1", Data: []byte("x")}, codes.NotFound},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := client.AsymmetricSign(t.Context(), tt.req)
			if status.Code(err) != tt.want {
				t.Fatalf("AsymmetricSign() = %v, want %v", err, tt.want)
			}
			if err == nil && (resp.GetSignatureCrc32C().GetValue() != crc(resp.GetSignature()).GetValue() || resp.GetVerifiedDigestCrc32C() || resp.GetVerifiedDataCrc32C()) {
				t.Errorf("AsymmetricSign() = %v: a wrong CRC, or one verified that was not sent", resp)
			}
		})
	}
}

// TestStates uses a version in each state.
func TestStates(t *testing.T) {
	kms := gcpkmstest.New(t)
	client, _ := dial(t, kms)
	version := kms.CreateVersion(kms.CreateKey("k", kmspb.CryptoKeyVersion_HMAC_SHA512))

	for number := range kmspb.CryptoKeyVersion_CryptoKeyVersionState_name {
		state := kmspb.CryptoKeyVersion_CryptoKeyVersionState(number)
		kms.SetState(version, state)
		want := codes.FailedPrecondition
		if state == kmspb.CryptoKeyVersion_ENABLED {
			want = codes.OK
		}
		if _, err := client.MacSign(t.Context(), &kmspb.MacSignRequest{Name: version, Data: []byte("x")}); status.Code(err) != want {
			t.Errorf("MacSign() in state %v = %v, want %v", state, err, want)
		}
		if v, err := client.GetCryptoKeyVersion(t.Context(), &kmspb.GetCryptoKeyVersionRequest{Name: version}); err != nil || v.GetState() != state {
			t.Errorf("GetCryptoKeyVersion() = %v, %v; want state %v", v, err, state)
		}
	}
}

func TestMACVerify(t *testing.T) {
	kms := gcpkmstest.New(t)
	client, _ := dial(t, kms)
	version := kms.CreateVersion(kms.CreateKey("k", kmspb.CryptoKeyVersion_HMAC_SHA224))
	made, err := client.MacSign(t.Context(), &kmspb.MacSignRequest{Name: version, Data: []byte("x"), DataCrc32C: crc([]byte("x"))})
	if err != nil || len(made.GetMac()) != 28 || !made.GetVerifiedDataCrc32C() {
		t.Fatalf("MacSign() = %v, %v", made, err)
	}

	for data, want := range map[string]bool{"x": true, "y": false} {
		resp, err := client.MacVerify(t.Context(), &kmspb.MacVerifyRequest{Name: version, Data: []byte(data), Mac: made.GetMac(), MacCrc32C: made.GetMacCrc32C()})
		if err != nil || resp.GetSuccess() != want || !resp.GetVerifiedMacCrc32C() || resp.GetVerifiedSuccessIntegrity() != want {
			t.Errorf("MacVerify(%q) = %v, %v; want success %t", data, resp, err, want)
		}
	}

	if _, err := client.MacSign(t.Context(), &kmspb.MacSignRequest{Name: version}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("MacSign(nothing) = %v, want INVALID_ARGUMENT", err)
	}
}

// TestEncryptLimits encrypts as much as Google does and a byte more.
func TestEncryptLimits(t *testing.T) {
	kms := gcpkmstest.New(t)
	client, _ := dial(t, kms)
	key := kms.CreateKey("k", kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION)
	if _, err := client.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: key, Plaintext: []byte("x")}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Encrypt() without a version = %v, want FAILED_PRECONDITION", err)
	}
	version := kms.CreateVersion(key)

	for size, want := range map[int]codes.Code{0: codes.OK, 64 << 10: codes.OK, 64<<10 + 1: codes.InvalidArgument} {
		if _, err := client.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: version, Plaintext: make([]byte, size)}); status.Code(err) != want {
			t.Errorf("Encrypt(%d bytes) = %v, want %v", size, err, want)
		}
	}

	if c, err := client.GetCryptoKey(t.Context(), &kmspb.GetCryptoKeyRequest{Name: key}); err != nil || c.GetPrimary().GetName() != version {
		t.Errorf("GetCryptoKey() = %v, %v; want primary version %s", c, err, version)
	}
}

// TestFaults checks at which call a fault begins and ends.
func TestFaults(t *testing.T) {
	kms := gcpkmstest.New(t)
	client, _ := dial(t, kms)
	version := kms.CreateVersion(kms.CreateKey("k", kmspb.CryptoKeyVersion_HMAC_SHA256))
	other := kms.CreateVersion(kms.CreateKey("other", kmspb.CryptoKeyVersion_HMAC_SHA256))
	kms.Inject(gcpkmstest.Fault{Method: "MacSign", Name: version, Kind: gcpkmstest.Throttle, Skip: 1, Times: 2})
	call := func(name string) codes.Code {
		_, err := client.MacSign(t.Context(), &kmspb.MacSignRequest{Name: name, Data: []byte("x")})
		return status.Code(err)
	}

	for i, want := range []codes.Code{codes.OK, codes.ResourceExhausted, codes.ResourceExhausted, codes.OK} {
		if got := call(version); got != want {
			t.Errorf("call %d: %v, want %v", i+1, got, want)
		}
		if got := call(other); got != codes.OK {
			t.Errorf("call %d of another key: %v, want OK", i+1, got)
		}
	}

	if n := kms.Calls("MacSign"); n != 8 {
		t.Errorf("Calls() = %d, want 8", n)
	}
	kms.Inject(gcpkmstest.Fault{Kind: gcpkmstest.Internal, Times: -1})
	if got := call(version); got != codes.Internal {
		t.Errorf("call: %v, want INTERNAL", got)
	}
	kms.Heal()
	if got := call(version); got != codes.OK {
		t.Errorf("call after Heal(): %v, want OK", got)
	}
	kms.Inject(gcpkmstest.Fault{Kind: gcpkmstest.Hang})
	time.AfterFunc(50*time.Millisecond, kms.Close)
	if got := call(version); got != codes.Unavailable {
		t.Errorf("call that hung at Close(): %v, want UNAVAILABLE", got)
	}
}

func TestTestIamPermissions(t *testing.T) {
	kms := gcpkmstest.New(t)
	_, client := dial(t, kms)
	const sign, view = "cloudkms.cryptoKeyVersions.useToSign", "cloudkms.cryptoKeyVersions.viewPublicKey"
	key := kms.CreateKey("k", kmspb.CryptoKeyVersion_HMAC_SHA256)
	ask := func(resource string) ([]string, codes.Code) {
		resp, err := client.TestIamPermissions(t.Context(), &iampb.TestIamPermissionsRequest{Resource: resource, Permissions: []string{sign, view}})
		return resp.GetPermissions(), status.Code(err)
	}
	if has, code := ask(key); code != codes.OK || len(has) != 2 {
		t.Errorf("TestIamPermissions() = %v, %v; want both", has, code)
	}
	kms.SetPermissions(view)
	if has, code := ask(key); code != codes.OK || len(has) != 1 || has[0] != view {
		t.Errorf("TestIamPermissions() = %v, %v; want %s", has, code, view)
	}
	if has, code := ask(key + "x"); code != codes.OK || len(has) != 0 {
		t.Errorf("TestIamPermissions(no key) = %v, %v; want none", has, code)
	}
	if _, code := ask(key + "/cryptoKeyVersions/1"); code != codes.InvalidArgument {
		t.Errorf("TestIamPermissions(a version) = %v, want INVALID_ARGUMENT", code)
	}
}
