//go:build !noaws

package awskms_test

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"signetd/backends/awskms/awskmstest"
	"signetd/signer"
)

// TestAlgs opens a key of every type and usage, and uses it with each algorithm in its
// Algs.
func TestAlgs(t *testing.T) {
	rs := []signer.Alg{signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512}
	oaep := []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256}
	agree := []signer.Alg{signer.ECDHES, signer.ECDHESA128KW, signer.ECDHESA192KW, signer.ECDHESA256KW}

	tests := []struct {
		spec, usage string
		want        []signer.Alg // none: refused
		probe       string
	}{
		{"RSA_2048", "SIGN_VERIFY", rs, "Sign"},
		{"RSA_3072", "SIGN_VERIFY", rs, "Sign"},
		{"RSA_4096", "SIGN_VERIFY", rs, "Sign"},
		{"RSA_2048", "ENCRYPT_DECRYPT", oaep, "Decrypt"},
		{"RSA_3072", "ENCRYPT_DECRYPT", oaep, "Decrypt"},
		{"RSA_4096", "ENCRYPT_DECRYPT", oaep, "Decrypt"},
		{"ECC_NIST_P256", "SIGN_VERIFY", []signer.Alg{signer.ES256}, "Sign"},
		{"ECC_NIST_P384", "SIGN_VERIFY", []signer.Alg{signer.ES384}, "Sign"},
		{"ECC_NIST_P521", "SIGN_VERIFY", []signer.Alg{signer.ES512}, "Sign"},
		{"ECC_SECG_P256K1", "SIGN_VERIFY", []signer.Alg{signer.ES256K}, "Sign"},
		{"ECC_NIST_EDWARDS25519", "SIGN_VERIFY", []signer.Alg{signer.EdDSA, signer.Ed25519}, "Sign"},
		{"ML_DSA_44", "SIGN_VERIFY", []signer.Alg{signer.MLDSA44}, "Sign"},
		{"ML_DSA_65", "SIGN_VERIFY", []signer.Alg{signer.MLDSA65}, "Sign"},
		{"ML_DSA_87", "SIGN_VERIFY", []signer.Alg{signer.MLDSA87}, "Sign"},
		{"ECC_NIST_P256", "KEY_AGREEMENT", agree, "DeriveSharedSecret"},
		{"ECC_NIST_P384", "KEY_AGREEMENT", agree, "DeriveSharedSecret"},
		{"ECC_NIST_P521", "KEY_AGREEMENT", agree, "DeriveSharedSecret"},
		{"HMAC_256", "GENERATE_VERIFY_MAC", []signer.Alg{signer.HS256}, "GenerateMac"},
		{"HMAC_384", "GENERATE_VERIFY_MAC", []signer.Alg{signer.HS384}, "GenerateMac"},
		{"HMAC_512", "GENERATE_VERIFY_MAC", []signer.Alg{signer.HS512}, "GenerateMac"},
		{"HMAC_224", "GENERATE_VERIFY_MAC", nil, ""},
	}

	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server)

	for _, tt := range tests {
		t.Run(tt.spec+" "+tt.usage, func(t *testing.T) {
			arn := server.CreateKey(tt.spec, tt.usage)
			before := server.Calls()[tt.probe]
			k, err := b.OpenKey(t.Context(), arn)
			if tt.want == nil {
				if !errors.Is(err, signer.ErrUnsupported) || !strings.Contains(err.Error(), tt.spec) {
					t.Errorf("OpenKey() = %v, want ErrUnsupported that names the type", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n := server.Calls()[tt.probe] - before; n != 1 {
				t.Errorf("%s was tried %d times at open, want 1", tt.probe, n)
			}
			if got := k.(signer.AlgLister).Algs(); !slices.Equal(got, tt.want) {
				t.Errorf("Algs() = %v, want %v", got, tt.want)
			}
			if got := k.(signer.Describer).Describe(); !strings.Contains(got, arn) || !strings.Contains(got, tt.spec) || !strings.Contains(got, tt.usage) {
				t.Errorf("Describe() = %q, want ARN, type and usage", got)
			}
			v, err := signer.NewVersion(k, signer.VersionConfig{KID: "k", Algs: tt.want})
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Prove(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStates opens keys that AWS would not use.
func TestStates(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server)
	arn := server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")

	for state, text := range map[string]string{
		awskmstest.Disabled: "enable it", awskmstest.PendingDeletion: "cancel its deletion", awskmstest.PendingImport: "import its key material",
		awskmstest.Unavailable: "key store", "Creating": "wait", "SomethingNew": "SomethingNew",
	} {
		server.SetState(arn, state)
		if _, err := b.OpenKey(t.Context(), arn); !errors.Is(err, signer.ErrUnavailable) || !signer.Passing(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("OpenKey(%s) = %v, want ErrUnavailable that may pass, with %q", state, err, text)
		}
	}

	server.SetState(arn, awskmstest.Enabled)
	if _, err := b.OpenKey(t.Context(), arn); err != nil {
		t.Errorf("OpenKey(enabled again) = %v", err)
	}
}

func TestRefs(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server)
	arn := server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")
	alias := server.SetAlias("alias/oidc", arn)
	other := server.SetAlias("alias/rsa", server.CreateKey("RSA_2048", "SIGN_VERIFY"))

	tests := []struct {
		ref  string
		want error
		text string // in the error, or in Describe
	}{
		{arn, nil, arn},
		{"awskms:///" + arn, nil, arn},
		{alias, nil, "resolved from " + alias},
		{"awskms:///" + alias, nil, arn},
		{"alias/oidc", nil, "resolved from alias/oidc"},
		{"awskms:///alias/oidc", nil, "resolved from alias/oidc"},
		{other, nil, "RSA_2048"},
		{"alias/none", signer.ErrNotFound, "alias/none"},
		{arn + "0", signer.ErrNotFound, "no such key"},
		{strings.Replace(arn, "eu-west-1", "us-east-1", 1), signer.ErrInvalid, "us-east-1"},
		{arn[strings.LastIndexByte(arn, '/')+1:], signer.ErrInvalid, "ARN"},
		{"key/" + arn, signer.ErrInvalid, "ARN"},
		{"", signer.ErrInvalid, "ARN"},
		{"pkcs11:object=a;pin-value=1234", signer.ErrInvalid, "ARN"},
		{"arn:aws:s3:eu-west-1:111122223333:key/x", signer.ErrInvalid, "ARN"},
		{"awskms:" + arn, signer.ErrInvalid, "ARN"},
		{"alias/" + strings.Repeat("a", 300), signer.ErrInvalid, "ARN"},
	}

	for _, tt := range tests {
		k, err := b.OpenKey(t.Context(), tt.ref)
		if tt.want == nil {
			if err != nil || !strings.Contains(k.(signer.Describer).Describe(), tt.text) {
				t.Errorf("OpenKey(%q) = %v, %v; want a key with %q", tt.ref, k, err, tt.text)
			}
			continue
		}
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "1234;") || strings.Contains(err.Error(), "pin-value") {
			t.Errorf("OpenKey(%q) = %v, want %v with %q", tt.ref, err, tt.want, tt.text)
		}
	}
}

// TestAliasMoves points an alias at another key while it is resolved, and afterwards. The
// open key stays the one that was described.
func TestAliasMoves(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server)
	first, second := server.CreateKey("RSA_2048", "SIGN_VERIFY"), server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")

	for _, moveAt := range []string{"GetPublicKey", "Sign"} {
		server.SetAlias("alias/a", first)
		server.Inject(moveAt, 1, 1, awskmstest.Before(func() { server.SetAlias("alias/a", second) }))
		k := openSigner(t, b, "alias/a")
		server.SetAlias("alias/a", second)
		for range 2 {
			if _, err := k.SignContext(t.Context(), make([]byte, 32), crypto.SHA256); err != nil {
				t.Errorf("moved at %s: SignContext() = %v", moveAt, err)
			}
		}
		if !server.Public(first).(*rsa.PublicKey).Equal(k.Public()) {
			t.Errorf("moved at %s: the key is another than the alias named", moveAt)
		}
		server.Heal()
	}

	if k := openSigner(t, b, "alias/a"); !strings.Contains(k.(signer.Describer).Describe(), second) {
		t.Errorf("opened again: Describe() = %q, want %s", k.(signer.Describer).Describe(), second)
	}
}

// TestOpenKeyFaults makes the calls fail with which a key is opened.
func TestOpenKeyFaults(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server)
	arn, other := server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY"), server.CreateKey("ECC_NIST_P384", "SIGN_VERIFY")
	describes := func(arn string) awskmstest.Fault {
		return awskmstest.With("KeyMetadata", map[string]any{"Arn": arn, "KeyId": "x", "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY", "KeyState": "Enabled"})
	}

	tests := []struct {
		name, op string
		fault    awskmstest.Fault
		code     string
	}{
		{"{}", "DescribeKey", awskmstest.Empty(), "unavailable"},
		{"another key", "DescribeKey", describes(other), signer.CodeInternal},
		{"no ARN", "DescribeKey", describes("x"), "unavailable"},
		{"a type of next year", "DescribeKey", awskmstest.With("KeyMetadata", map[string]any{"Arn": arn, "KeySpec": "ECC_MOON", "KeyUsage": "SIGN_VERIFY", "KeyState": "Enabled"}), signer.CodeInternal},
		{"a usage of next year", "DescribeKey", awskmstest.With("KeyMetadata", map[string]any{"Arn": arn, "KeySpec": "ML_KEM_768", "KeyUsage": "ENCAPSULATE_DECAPSULATE", "KeyState": "Enabled"}), "unsupported"},
		{"{}", "GetPublicKey", awskmstest.Empty(), "unavailable"},
		{"another key's ARN", "GetPublicKey", awskmstest.OtherARN(), signer.CodeInternal},
		{"no public key", "GetPublicKey", awskmstest.With("PublicKey", []byte("x")), "unavailable"},
		{"another type", "GetPublicKey", awskmstest.With("KeySpec", "RSA_2048"), signer.CodeInternal},
		{"throttling", "GetPublicKey", awskmstest.Throttling(), "overloaded"},
		{"hang", "DescribeKey", awskmstest.Hang(), "unavailable"},
	}

	for _, tt := range tests {
		t.Run(tt.op+" "+tt.name, func(t *testing.T) {
			server.Inject(tt.op, 1, -1, tt.fault)
			defer server.Heal()
			time.Sleep(rest)
			k, err := b.OpenKey(t.Context(), arn)
			if k != nil || signer.Code(err) != tt.code {
				t.Errorf("OpenKey() = %v, %v; want code %s", k, err, tt.code)
			}
		})
	}
}

// TestPermissions opens keys without each of the permissions that they need.
func TestPermissions(t *testing.T) {
	for _, tt := range []struct{ spec, usage, lacks string }{
		{"ECC_NIST_P256", "SIGN_VERIFY", "DescribeKey"},
		{"ECC_NIST_P256", "SIGN_VERIFY", "GetPublicKey"},
		{"ECC_NIST_P256", "SIGN_VERIFY", "Sign"},
		{"RSA_2048", "ENCRYPT_DECRYPT", "Decrypt"},
		{"ECC_NIST_P256", "KEY_AGREEMENT", "DeriveSharedSecret"},
		{"HMAC_256", "GENERATE_VERIFY_MAC", "GenerateMac"},
		{"SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "Encrypt"},
		{"SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "Decrypt"},
	} {
		t.Run(tt.lacks+" "+tt.usage, func(t *testing.T) {
			server := awskmstest.New(t, awskmstest.Config{})
			b := open(t, server)
			arn := server.CreateKey(tt.spec, tt.usage)
			server.Deny(tt.lacks)
			_, err := b.OpenKey(t.Context(), arn)
			if !errors.Is(err, signer.ErrUnavailable) || !strings.Contains(err.Error(), "kms:"+tt.lacks+" ") || !strings.Contains(err.Error(), "lack the permission") {
				t.Errorf("OpenKey() = %v, want ErrUnavailable that names kms:%s", err, tt.lacks)
			}
			if err := b.Ping(t.Context()); err != nil {
				t.Errorf("Ping() = %v: a missing permission does not mean that AWS is down", err)
			}
		})
	}
}
