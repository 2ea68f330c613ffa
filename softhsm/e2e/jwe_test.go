package e2e

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
)

var encs = []jose.ContentEncryption{
	jose.A128GCM, jose.A192GCM, jose.A256GCM, jose.A128CBC_HS256, jose.A192CBC_HS384, jose.A256CBC_HS512,
}

// seal encrypts with go-jose.
func seal(t *testing.T, public jose.JSONWebKey, alg jose.KeyAlgorithm, enc jose.ContentEncryption, plaintext []byte, options *jose.EncrypterOptions) *jose.JSONWebEncryption {
	t.Helper()
	e, err := jose.NewEncrypter(enc, jose.Recipient{Algorithm: alg, Key: public.Key, KeyID: public.KeyID}, options)
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := e.Encrypt(plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return jwe
}

// twoRecipients seals for two keys in the general JSON serialization.
func twoRecipients(t *testing.T, a, b jose.JSONWebKey, plaintext string) string {
	t.Helper()
	e, err := jose.NewMultiEncrypter(jose.A256GCM, []jose.Recipient{
		{Algorithm: jose.RSA_OAEP_256, Key: a.Key, KeyID: a.KeyID}, {Algorithm: jose.RSA_OAEP_256, Key: b.Key, KeyID: b.KeyID},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := e.Encrypt([]byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return jwe.FullSerialize()
}

func compact(t *testing.T, jwe *jose.JSONWebEncryption) string {
	t.Helper()
	text, err := jwe.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// publicKey returns the public half of a key with one version.
func (p *process) publicKey(name string) jose.JSONWebKey {
	p.t.Helper()
	return get[api.Key](p, api.ListKeys.Path+"/"+name).Versions[0].Public.JSONWebKey
}

func TestE2EDecryptJWE(t *testing.T) {
	p := start(t, newSettings(t))
	inbox := p.publicKey("inbox")
	plaintext := readFile(t, "../../deploy/examples/payload.json")
	open := func(t *testing.T, jwe string) api.DecryptJWEResponse {
		t.Helper()
		got := decode[api.DecryptJWEResponse](t, "decrypt", p.do(http.MethodPost, api.DecryptJWE.Path, api.DecryptJWERequest{JWE: jwe}))
		if string(got.Plaintext) != plaintext || got.KID != inbox.KeyID {
			t.Errorf("kid %s, %d bytes; want kid %s and the %d bytes that were sealed", got.KID, len(got.Plaintext), inbox.KeyID, len(plaintext))
		}
		return got
	}
	for _, alg := range []jose.KeyAlgorithm{jose.RSA_OAEP, jose.RSA_OAEP_256} {
		for _, enc := range encs {
			t.Run(string(alg)+" with "+string(enc), func(t *testing.T) {
				got := open(t, compact(t, seal(t, inbox, alg, enc, []byte(plaintext), nil)))
				if got.Header.Alg != string(alg) || got.Header.Enc != string(enc) {
					t.Errorf("header %+v", got.Header)
				}
			})
		}
	}

	t.Run("flattened JSON", func(t *testing.T) {
		open(t, seal(t, inbox, jose.RSA_OAEP_256, jose.A256GCM, []byte(plaintext), nil).FullSerialize())
	})
	t.Run("general JSON with two recipients", func(t *testing.T) {
		stranger := p.publicKey("outbox")
		stranger.KeyID = "nobody"
		open(t, twoRecipients(t, stranger, inbox, plaintext))
	})

	t.Run("without a kid every key of the peer is tried", func(t *testing.T) {
		public := inbox
		public.KeyID = ""
		open(t, compact(t, seal(t, public, jose.RSA_OAEP_256, jose.A256GCM, []byte(plaintext), nil)))
	})
	t.Run("an empty plaintext", func(t *testing.T) {
		jwe := compact(t, seal(t, inbox, jose.RSA_OAEP_256, jose.A256GCM, nil, nil))
		if got := post[api.DecryptJWEResponse](p, api.DecryptJWE.Path, api.DecryptJWERequest{JWE: jwe}); len(got.Plaintext) != 0 {
			t.Errorf("%d bytes", len(got.Plaintext))
		}
	})

	for _, alg := range []string{"RSA-OAEP", "RSA-OAEP-256", "RSA-OAEP-384", "RSA-OAEP-512"} {
		for _, enc := range encs {
			t.Run("the daemon encrypts "+alg+" with "+string(enc), func(t *testing.T) {
				recipient := inbox
				recipient.Algorithm = alg
				sealed := post[api.EncryptJWEResponse](p, api.EncryptJWE.Path, api.EncryptJWERequest{Recipient: &recipient, Plaintext: []byte(plaintext), Enc: string(enc)})
				open(t, sealed.JWE)
			})
		}
	}

	t.Run("the daemon encrypts to a key by name", func(t *testing.T) {
		sealed := post[api.EncryptJWEResponse](p, api.EncryptJWE.Path, api.EncryptJWERequest{Key: "inbox", Plaintext: []byte(plaintext)})
		if got := open(t, sealed.JWE); got.Header.Alg != "RSA-OAEP-256" || got.Header.Enc != "A256GCM" {
			t.Errorf("header %+v", got.Header)
		}
	})
}

// The daemon opens a JWE, and verifies the JWS that was in it.
func TestE2ENestedJWT(t *testing.T) {
	p := start(t, newSettings(t))
	token := p.sign("oidc", "").Token
	options := (&jose.EncrypterOptions{}).WithContentType("JWT").WithType("JWT")
	jwe := compact(t, seal(t, p.publicKey("inbox"), jose.RSA_OAEP_256, jose.A256GCM, []byte(token), options))
	opened := post[api.DecryptJWEResponse](p, api.DecryptJWE.Path, api.DecryptJWERequest{JWE: jwe})
	if opened.Header.Cty != "JWT" || string(opened.Plaintext) != token {
		t.Fatalf("cty %q, same token: %v", opened.Header.Cty, string(opened.Plaintext) == token)
	}

	if got := post[api.VerifyJWTResponse](p, api.VerifyJWT.Path, api.VerifyJWTRequest{Token: string(opened.Plaintext)}); got.Key != "oidc" {
		t.Errorf("verified as of key %q", got.Key)
	}
	sealed := post[api.EncryptJWEResponse](p, api.EncryptJWE.Path, api.EncryptJWERequest{Key: "inbox", Plaintext: []byte(token), Header: &api.Header{Cty: "JWT"}})
	opened = post[api.DecryptJWEResponse](p, api.DecryptJWE.Path, api.DecryptJWERequest{JWE: sealed.JWE})
	if opened.Header.Cty != "JWT" || string(opened.Plaintext) != token {
		t.Error("what the daemon nested does not come out again")
	}
}

func TestE2EUnwrapCEK(t *testing.T) {
	p := start(t, newSettings(t))
	for _, alg := range []string{"RSA-OAEP", "RSA-OAEP-256", "RSA-OAEP-384", "RSA-OAEP-512"} {
		t.Run(alg+" opens with the CEK that is given out", func(t *testing.T) {
			recipient := p.publicKey("inbox")
			recipient.Algorithm = alg
			sealed := post[api.EncryptJWEResponse](p, api.EncryptJWE.Path, api.EncryptJWERequest{Recipient: &recipient, Plaintext: []byte("hello")})
			parts := strings.Split(sealed.JWE, ".")
			for _, q := range []api.UnwrapCEKRequest{{Key: "inbox"}, {KID: recipient.KeyID}, {Key: "inbox", KID: recipient.KeyID}} {
				q.Alg, q.EncryptedKey = alg, part(t, parts[1])
				got := post[api.UnwrapCEKResponse](p, api.UnwrapCEK.Path, q)
				if plaintext := openGCM(t, got.CEK, parts); plaintext != "hello" || got.KID != recipient.KeyID {
					t.Errorf("plaintext %q, kid %q", plaintext, got.KID)
				}
			}
		})
	}
}

func part(t *testing.T, text string) []byte {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// openGCM decrypts the content of a JWE (RFC 7516 section 5.2, steps 14 to 16).
func openGCM(t *testing.T, cek []byte, parts []string) string {
	t.Helper()
	block, err := aes.NewCipher(cek)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}

	plaintext, err := gcm.Open(nil, part(t, parts[2]), append(part(t, parts[3]), part(t, parts[4])...), []byte(parts[0]))
	if err != nil {
		t.Fatal(err)
	}
	return string(plaintext)
}
