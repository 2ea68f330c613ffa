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

// A SealedToken is a JWE (RFC 7516) that is not opened yet.
type SealedToken struct {
	Enc    string
	Header Header
	// Recipients are those that the JWE names: one, or several in the general JSON
	// serialization.
	Recipients []*Recipient

	iv, ciphertext, tag, aad []byte
	deflated                 bool // the plaintext is compressed
}

// A Recipient is what a JWE holds for one of its recipients.
type Recipient struct {
	KID string
	WrappedCEK
}

// content returns t as the recipient r sees it.
func (t *SealedToken) content(r *Recipient) Content {
	return Content{EncryptedKey: r.EncryptedKey, Enc: t.Enc, IV: t.iv, Ciphertext: t.ciphertext, Tag: t.tag, AAD: t.aad}
}

// jweJSON is the JSON serialization of a JWE, general or flattened (RFC 7516 section 7.2).
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

// ParseSealed reads a JWE in compact, flattened or general JSON form. Its error is always
// ErrDecrypt.
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

// mixed reports whether j is both general and flattened, which RFC 7516 section 7.2.2
// forbids. The general form of go-jose repeats the key of the first recipient at the top,
// and is let through.
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
		data, good := DecodeBase64URL(text)
		ok = ok && good
		return data
	}

	t.iv, t.ciphertext, t.tag, t.aad = decode(j.IV), decode(j.Ciphertext), decode(j.Tag), []byte(j.Protected)
	if j.AAD != nil { // RFC 7516 section 5.1, step 14
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

// add adds a recipient, whose header is the union of three. All recipients must agree on
// the members that concern the content.
func (t *SealedToken) add(protected, shared joseHeader, r jweRecipient) bool {
	all := joseHeader{}
	if !all.add(protected) || !all.add(shared) || !all.add(r.Header) {
		return false
	}
	_, crit := all["crit"] // no extension is implemented
	_, zipped := all["zip"]
	_, protectedZip := protected["zip"]
	if crit || zipped != protectedZip { // zip must be protected, RFC 7516 section 4.1.3
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

	key, good := DecodeBase64URL(r.EncryptedKey)
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

// DecryptJWE opens t with what it holds for r, one of its recipients. A key that does not
// unwrap, a tag that does not match and an algorithm that v is not pinned to are all
// ErrDecrypt.
func (v *Version) DecryptJWE(ctx context.Context, t *SealedToken, r *Recipient) ([]byte, error) {
	if err := v.seen(); err != nil {
		return nil, err
	}
	plaintext, err := v.decryptContent(ctx, t, r)
	if err != nil || !t.deflated {
		return plaintext, err
	}
	defer clear(plaintext)
	return inflate(plaintext)
}

func (v *Version) decryptContent(ctx context.Context, t *SealedToken, r *Recipient) ([]byte, error) {
	enc, c := jose.ContentEncryption(t.Enc), t.content(r)
	pinned := slices.Contains(v.algs, r.Alg)

	switch {
	case pinned && r.Alg == Dir:
		// The shared key itself is the CEK, and stays in its hardware.
		secret, _ := v.public.(Secret)
		if !isGCM(enc) || cekSizes[enc] != secret.Size || len(r.EncryptedKey) != 0 {
			return nil, ErrDecrypt
		}
		return opened(ctx, v, func(ctx context.Context, k AEAD) ([]byte, error) {
			return k.OpenContext(ctx, c.IV, slices.Concat(c.Ciphertext, c.Tag), c.AAD)
		})

	case pinned && holdsCEK(v.firstKey(), r.Alg):
		return opened(ctx, v, func(ctx context.Context, k ContentDecrypter) ([]byte, error) {
			return k.DecryptContent(ctx, r.Alg, c)
		})
	}

	// Whether the CEK unwraps must not show, or the key could be asked ciphertext by
	// ciphertext. So a random CEK takes the place of one that does not unwrap, and the
	// decryption of the content is what fails (RFC 7516 section 11.5).
	size := cekSizes[enc]
	cek := make([]byte, size)
	rand.Read(cek)
	defer clear(cek)
	if pinned {
		unwrapped, err := v.UnwrapCEK(ctx, r.WrappedCEK)
		defer clear(unwrapped)
		if err != nil && !errors.Is(err, ErrDecrypt) {
			return nil, err // the backend is at fault, not the JWE
		}
		if err == nil && len(unwrapped) == size {
			copy(cek, unwrapped)
		}
	}
	return openContent(enc, cek, c)
}

// maxInflated and maxRatio bound the length of a compressed plaintext after it is
// inflated: that many bytes, or that many times its compressed length if that is more. The
// values are those of go-jose.
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
