package signer

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// maxRecipients bounds the recipients of one JWE: each may cost a try with a key.
const maxRecipients = 16

// A SealedToken is a JWE (RFC 7516) that has not been opened.
type SealedToken struct {
	Enc    string
	Header Header
	// Recipients are those that the JWE names: one, or several in the general JSON
	// serialization.
	Recipients []*Recipient

	iv, ciphertext, tag, aad []byte
	deflated                 bool
}

// A Recipient is what a JWE holds for one of its recipients.
type Recipient struct {
	KID string
	WrappedCEK
}

// content is t as one of its recipients sees it.
func (t *SealedToken) content(r *Recipient) Content {
	return Content{EncryptedKey: r.EncryptedKey, Enc: t.Enc, IV: t.iv, Ciphertext: t.ciphertext, Tag: t.tag, AAD: t.aad}
}

// jweJSON is the JSON serialization of a JWE, general or flattened (RFC 7516
// section 7.2).
type jweJSON struct {
	Protected    string          `json:"protected"`
	Unprotected  joseHeader      `json:"unprotected"`
	Header       joseHeader      `json:"header"`
	EncryptedKey *string         `json:"encrypted_key"`
	Recipients   *[]jweRecipient `json:"recipients"`
	AAD          *string         `json:"aad"`
	IV           string          `json:"iv"`
	Ciphertext   string          `json:"ciphertext"`
	Tag          string          `json:"tag"`
}

type jweRecipient struct {
	Header       joseHeader `json:"header"`
	EncryptedKey string     `json:"encrypted_key"`
}

// ParseSealed reads a JWE in compact, flattened or general JSON form. Whatever is
// wrong with it, the error is ErrDecrypt.
func ParseSealed(jwe string) (*SealedToken, error) {
	var j jweJSON
	if strings.HasPrefix(strings.TrimSpace(jwe), "{") {
		if json.Unmarshal([]byte(jwe), &j) != nil || j.mixed() {
			return nil, ErrDecrypt
		}
	} else {
		parts := strings.Split(jwe, ".")
		if len(parts) != 5 || parts[0] == "" {
			return nil, ErrDecrypt
		}
		j = jweJSON{Protected: parts[0], EncryptedKey: &parts[1], IV: parts[2], Ciphertext: parts[3], Tag: parts[4]}
	}
	t, ok := j.token()
	if !ok {
		return nil, ErrDecrypt
	}
	return t, nil
}

// mixed reports whether j is both general and flattened (RFC 7516 section 7.2.2).
// go-jose's general form repeats the first recipient's key at the top: that is let
// through.
func (j *jweJSON) mixed() bool {
	if j.Recipients == nil {
		return false
	}
	repeated := j.EncryptedKey == nil || len(*j.Recipients) > 0 && *j.EncryptedKey == (*j.Recipients)[0].EncryptedKey
	return j.Header != nil || !repeated
}

func (j *jweJSON) token() (*SealedToken, bool) {
	t, ok := new(SealedToken), true
	decode := func(text string) []byte {
		data, good := decodeStrict(text)
		ok = ok && good
		return data
	}
	t.iv, t.ciphertext, t.tag, t.aad = decode(j.IV), decode(j.Ciphertext), decode(j.Tag), []byte(j.Protected)
	if j.AAD != nil {
		decode(*j.AAD)
		t.aad = []byte(j.Protected + "." + *j.AAD)
	}
	var protected joseHeader
	if text := decode(j.Protected); j.Protected != "" && json.Unmarshal(text, &protected) != nil {
		return nil, false
	}
	recipients := []jweRecipient{{Header: j.Header}}
	if j.EncryptedKey != nil {
		recipients[0].EncryptedKey = *j.EncryptedKey
	}
	if j.Recipients != nil {
		recipients = *j.Recipients
	}
	if !ok || len(recipients) == 0 || len(recipients) > maxRecipients {
		return nil, false
	}
	for _, r := range recipients {
		if !t.add(protected, j.Unprotected, r) {
			return nil, false
		}
	}
	return t, true
}

// add adds a recipient whose header is the union of three. All recipients must
// agree on what concerns the content.
func (t *SealedToken) add(protected, shared joseHeader, r jweRecipient) bool {
	all := joseHeader{}
	if !all.add(protected) || !all.add(shared) || !all.add(r.Header) {
		return false
	}
	_, crit := all["crit"] // nothing that it could name is understood
	_, zipped := all["zip"]
	_, protectedZip := protected["zip"] // RFC 7516 section 4.1.3
	if crit || zipped != protectedZip {
		return false
	}
	h := headerReader{h: all, ok: true}
	enc, zip := h.text("enc"), h.text("zip")
	if _, known := cekSizes[jose.ContentEncryption(enc)]; !known || (zipped && zip != "DEF") {
		return false
	}
	if len(t.Recipients) > 0 && enc != t.Enc {
		return false
	}
	t.Enc, t.deflated = enc, zipped
	t.Header = Header{Typ: h.text("typ"), Cty: h.text("cty")}
	key, good := decodeStrict(r.EncryptedKey)
	to := &Recipient{KID: h.text("kid"), WrappedCEK: WrappedCEK{
		Alg: Alg(h.text("alg")), Enc: enc, EncryptedKey: key,
		APU: h.bytes("apu"), APV: h.bytes("apv"), IV: h.bytes("iv"), Tag: h.bytes("tag"),
	}}
	if to.Alg.Family() == FamilyECDH {
		to.EPK = h.epk()
	}
	t.Recipients = append(t.Recipients, to)
	return good && h.ok && to.Alg.Use() == UseEnc
}

// DefaultEnc is the content encryption of a JWE for which none is asked.
const DefaultEnc = jose.A256GCM

// cekSizes is the length in bytes of the content encryption key of each "enc"
// (RFC 7518 section 5.1).
var cekSizes = map[jose.ContentEncryption]int{
	jose.A128GCM: 16, jose.A192GCM: 24, jose.A256GCM: 32,
	jose.A128CBC_HS256: 32, jose.A192CBC_HS384: 48, jose.A256CBC_HS512: 64,
}

var contentEncryptions = []jose.ContentEncryption{
	jose.A128GCM, jose.A192GCM, jose.A256GCM, jose.A128CBC_HS256, jose.A192CBC_HS384, jose.A256CBC_HS512,
}

// DecryptJWE opens t with what it holds for r, one of its recipients. A key that
// does not unwrap, a tag that does not match and an algorithm that v is not
// pinned to give ErrDecrypt by one path: where the unwrapping fails, a random CEK
// takes the place of the result (RFC 7516 section 11.5), and the content
// decryption is what fails. Where the hardware holds on to the CEK, it gives one
// answer for both.
func (v *Version) DecryptJWE(ctx context.Context, t *SealedToken, r *Recipient) ([]byte, error) {
	plaintext, err := v.decryptContent(ctx, t, r)
	if err != nil {
		return nil, err
	}
	if !t.deflated {
		return plaintext, nil
	}
	defer clear(plaintext)
	return inflate(plaintext)
}

func (v *Version) decryptContent(ctx context.Context, t *SealedToken, r *Recipient) ([]byte, error) {
	if err := v.seen(); err != nil {
		return nil, err
	}
	if slices.Contains(v.algs, r.Alg) {
		if r.Alg == Dir {
			return v.decryptDir(ctx, t, r)
		}
		if holdsCEK(v.firstKey(), r.Alg) {
			return opened(ctx, v, func(ctx context.Context, k ContentDecrypter) ([]byte, error) {
				return k.DecryptContent(ctx, r.Alg, t.content(r))
			})
		}
	}
	size := cekSizes[jose.ContentEncryption(t.Enc)]
	cek, err := v.cekOrRandom(ctx, r, size)
	if err != nil {
		return nil, err // the backend is at fault, not the JWE
	}
	defer clear(cek)
	return decryptContent(jose.ContentEncryption(t.Enc), cek, t.content(r))
}

// cekOrRandom unwraps the CEK, or makes up another if that fails because of what
// is in the JWE.
func (v *Version) cekOrRandom(ctx context.Context, r *Recipient, size int) ([]byte, error) {
	random := make([]byte, size)
	rand.Read(random)
	if !slices.Contains(v.algs, r.Alg) {
		return random, nil
	}
	cek, err := v.UnwrapCEK(ctx, r.WrappedCEK)
	switch {
	case err == nil && len(cek) == size:
		return cek, nil
	case err == nil || errors.Is(err, ErrDecrypt):
		clear(cek)
		return random, nil
	default:
		return nil, err
	}
}

// decryptDir opens t with the shared key itself, in its hardware.
func (v *Version) decryptDir(ctx context.Context, t *SealedToken, r *Recipient) ([]byte, error) {
	secret, _ := v.public.(Secret)
	if enc := jose.ContentEncryption(t.Enc); !isGCM(enc) || cekSizes[enc] != secret.Size || len(r.EncryptedKey) != 0 {
		return nil, ErrDecrypt
	}
	c := t.content(r)
	return opened(ctx, v, func(ctx context.Context, k AEAD) ([]byte, error) {
		return k.OpenContext(ctx, c.IV, slices.Concat(c.Ciphertext, c.Tag), c.AAD)
	})
}

// maxInflated and maxRatio bound what a compressed plaintext becomes: as many
// bytes, or as many times its length if that is more. They are go-jose's.
const (
	maxInflated = 250_000
	maxRatio    = 10
)

// inflate undoes "zip":"DEF" (RFC 7516 section 4.1.3, RFC 1951).
func inflate(deflated []byte) ([]byte, error) {
	most := max(maxInflated, maxRatio*len(deflated))
	r := flate.NewReader(bytes.NewReader(deflated))
	out, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err != nil || len(out) > most {
		clear(out)
		return nil, ErrDecrypt
	}
	return out, nil
}
