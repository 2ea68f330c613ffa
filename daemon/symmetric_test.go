package daemon_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/client"
	"signetd/daemon/daemontest"
	"signetd/signer"
)

// canary is in requests that are refused, and must be in no answer and no record.
const canary = "aHVudGVyMi1odW50ZXIy" // base64url of hunter2-hunter2

// A door is a daemon of its own with a client.
type door struct {
	*daemontest.Daemon
	*client.Client
}

func open(t *testing.T, c daemontest.Config) door {
	t.Helper()
	d := daemontest.New(t, c)
	cl := client.New(client.Config{Socket: d.Socket()})
	t.Cleanup(func() { _ = cl.Close() })
	return door{d, cl}
}

// post sends a body as it stands.
func (d door) post(t *testing.T, path, body string) (int, string) {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.Daemon.Socket())
	}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://signetd"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b.String()
}

// lastRecord is the newest record of the audit log.
func (d door) lastRecord(t *testing.T) (r audit.Record) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text(t, d.AuditLog())), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// A refusal is a request that is refused.
type refusal struct{ name, path, body, code, names string }

// checkRefusals holds that each refusal has its code, names the member or rule that
// is wrong, and echoes nothing, to the peer and in the record.
func (d door) checkRefusals(t *testing.T, tests []refusal) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, answer := d.post(t, tt.path, tt.body)
			var e api.ErrorResponse
			if err := json.Unmarshal([]byte(answer), &e); err != nil || e.Error.Code != tt.code || !strings.Contains(e.Error.Message, tt.names) {
				t.Errorf("POST %s %s = %s; want %s that names %q", tt.path, tt.body, answer, tt.code, tt.names)
			}
			if rec := d.lastRecord(t); rec.Outcome != tt.code || rec.Request != e.Error.RequestID {
				t.Errorf("record %+v, want one of this request with outcome %s", rec, tt.code)
			}
			if strings.Contains(answer, canary) || strings.Contains(answer, "hunter2") {
				t.Errorf("the answer %s echoes the request", answer)
			}
		})
	}
	if log := text(t, d.AuditLog()); strings.Contains(log, canary) || strings.Contains(log, "hunter2") {
		t.Error("the audit log echoes a request")
	}
}

func symmetric(t *testing.T) door {
	return open(t, daemontest.Config{Keys: []daemontest.Key{
		{Name: "mac", Algs: []signer.Alg{signer.HS512, signer.HS256}, KID: "m", Ops: []api.Op{api.OpSignMAC, api.OpVerifyMAC, api.OpSignJWS}},
		{Name: "check", Algs: []signer.Alg{signer.HS256}, KID: "c", Ops: []api.Op{api.OpVerifyMAC}},
		{Name: "ec", Algs: []signer.Alg{signer.ES256}, KID: "e", Ops: []api.Op{api.OpSignMAC, api.OpSignJWS}},
		{Name: "hidden", Algs: []signer.Alg{signer.HS256}, KID: "h"},
		{Name: "kek", Algs: []signer.Alg{signer.A256KW}, KID: "k", Ops: []api.Op{api.OpWrapKey, api.OpUnwrapKey}},
		{Name: "rsa", Algs: []signer.Alg{signer.RSAOAEP256, signer.RSAOAEP}, KID: "r", Ops: []api.Op{api.OpWrapKey, api.OpUnwrapKey}},
		{Name: "gcm", Algs: []signer.Alg{signer.A128GCMKW}, KID: "g", Ops: []api.Op{api.OpWrapKey}},
		{Name: "wraps", Algs: []signer.Alg{signer.A128KW}, KID: "w", Ops: []api.Op{api.OpWrapKey}},
	}})
}

func TestMAC(t *testing.T) {
	d, ctx := symmetric(t), t.Context()
	message := []byte("a message of hunter2")
	made, err := d.SignMAC(ctx, api.SignMACRequest{Key: "mac", Message: message})
	if err != nil || made.KID != "m" || len(made.MAC) != sha512.Size {
		t.Fatalf("SignMAC() = %+v, %v; want 64 bytes by m", made, err)
	}
	if rec := d.lastRecord(t); rec.Op != "mac-sign" || rec.Key != "mac" || rec.KID != "m" || rec.Alg != "HS512" || rec.Digest == "" {
		t.Errorf("record %+v", rec)
	}
	jws, err := d.SignJWS(ctx, api.SignJWSRequest{Key: "mac", Payload: []byte("x")}) // whose signature is a MAC of the same key
	if err != nil {
		t.Fatal(err)
	}
	var sig api.Bytes
	if err := sig.UnmarshalText([]byte(jws.Signature)); err != nil {
		t.Fatal(err)
	}
	input := jws.Protected + "." + strings.Split(jws.JWS, ".")[1]
	if made, err := d.SignMAC(ctx, api.SignMACRequest{Key: "mac", Message: []byte(input)}); err != nil || !hmac.Equal(made.MAC, sig) {
		t.Errorf("SignMAC() of a signing input = %x, %v; want %x", made.MAC, err, sig)
	}
	if v, err := d.VerifyMAC(ctx, api.VerifyMACRequest{Key: "mac", Message: message, MAC: made.MAC}); err != nil || v.KID != "m" {
		t.Errorf("VerifyMAC() = %+v, %v", v, err)
	}
	if rec := d.lastRecord(t); rec.Op != "mac-verify" || rec.KID != "m" || rec.Outcome != "ok" {
		t.Errorf("record %+v", rec)
	}
	for name, q := range map[string]api.VerifyMACRequest{
		"another message": {Key: "mac", Message: []byte("x"), MAC: made.MAC},
		"another alg":     {Key: "mac", Message: message, MAC: made.MAC, Alg: "HS256"},
		"another key":     {Key: "check", Message: message, MAC: made.MAC},
		"cut short":       {Key: "mac", Message: message, MAC: made.MAC[:32]},
		"nothing":         {Key: "mac", Message: message},
		"with a kid":      {Key: "mac", KID: "m", Message: []byte("x"), MAC: made.MAC},
	} {
		if v, err := d.VerifyMAC(ctx, q); !errors.Is(err, signer.ErrInvalid) || v != nil {
			t.Errorf("VerifyMAC(%s) = %+v, %v; want ErrInvalid", name, v, err)
		}
	}
	if log := text(t, d.AuditLog()); strings.Contains(log, "hunter2") {
		t.Error("the audit log holds a message")
	}
}

func TestMACRefused(t *testing.T) {
	symmetric(t).checkRefusals(t, []refusal{
		{"an unknown key", api.SignMAC.Path, `{"key":"nothing","message":"` + canary + `"}`, "denied", `"nothing"`},
		{"a hidden key", api.SignMAC.Path, `{"key":"hidden","message":"` + canary + `"}`, "denied", `"hidden"`},
		{"a grant to verify alone", api.SignMAC.Path, `{"key":"check","message":"` + canary + `"}`, "denied", "mac-sign"},
		{"verify without a grant", api.VerifyMAC.Path, `{"key":"hidden","message":"` + canary + `","mac":"AA"}`, "denied", "mac-verify"},
		{"a key that makes signatures", api.SignMAC.Path, `{"key":"ec","message":"` + canary + `"}`, "unsupported", "ES256"},
		{"an alg that is not listed", api.SignMAC.Path, `{"key":"mac","alg":"HS384","message":"` + canary + `"}`, "unsupported", "HS384"},
		{"an unknown version", api.SignMAC.Path, `{"key":"mac","kid":"x","message":"` + canary + `"}`, "not_found", "kid"},
		{"the version of another key", api.VerifyMAC.Path, `{"key":"mac","kid":"c","message":"` + canary + `","mac":"AA"}`, "not_found", "kid"},
		{"no base64url", api.SignMAC.Path, `{"key":"mac","message":"` + canary + `="}`, "invalid", "/message"},
		{"an unknown member", api.VerifyMAC.Path, `{"key":"mac","message":"` + canary + `","macc":"AA"}`, "invalid", "/macc"},
		{"a wrong MAC", api.VerifyMAC.Path, `{"key":"mac","message":"` + canary + `","mac":"` + canary + `"}`, "invalid", "mac"},
	})
}

func TestWrapKey(t *testing.T) {
	d, ctx := symmetric(t), t.Context()
	key := []byte("0123456789abcdef")
	for _, q := range []api.WrapKeyRequest{
		{Key: "kek", PlainKey: key},
		{Key: "kek", Alg: "A256KW", Form: api.FormRFC5649, PlainKey: key[:5]},
		{Key: "rsa", PlainKey: key[:5]},
		{Key: "rsa", Alg: "RSA-OAEP", PlainKey: key},
	} {
		w, err := d.WrapKey(ctx, q)
		if err != nil {
			t.Fatalf("WrapKey(%+v) = %v", q, err)
		}
		rec := d.lastRecord(t)
		if rec.Op != "wrap-key" || rec.Key != q.Key || rec.KID != w.KID || rec.Alg != w.Alg || rec.Object == "" {
			t.Errorf("record %+v", rec)
		}
		u, err := d.UnwrapKey(ctx, api.UnwrapKeyRequest{Key: q.Key, KID: w.KID, Alg: w.Alg, Form: q.Form, EncryptedKey: w.EncryptedKey})
		if err != nil || !bytes.Equal(u.PlainKey, q.PlainKey) {
			t.Errorf("UnwrapKey(%+v) = %+v, %v; want %x", q, u, err, q.PlainKey)
		}
		if r := d.lastRecord(t); r.Op != "unwrap-key" || r.Object != rec.Object {
			t.Errorf("record %+v, want the object of %+v", r, rec)
		}
		var texts []string
		for _, bad := range [][]byte{nil, w.EncryptedKey[1:], append(bytes.Clone(w.EncryptedKey), 0), bytes.Repeat([]byte{7}, len(w.EncryptedKey))} {
			_, err := d.UnwrapKey(ctx, api.UnwrapKeyRequest{Key: q.Key, Alg: w.Alg, Form: q.Form, EncryptedKey: bad})
			if !errors.Is(err, signer.ErrDecrypt) {
				t.Errorf("UnwrapKey(%+v, damaged) = %v, want ErrDecrypt", q, err)
			}
			texts = append(texts, err.Error())
		}
		for _, text := range texts {
			if text != signer.ErrDecrypt.Error() {
				t.Errorf("UnwrapKey(%+v, damaged) says %q, want %q", q, text, signer.ErrDecrypt)
			}
		}
	}
	data, err := os.ReadFile(d.AuditLog())
	if err != nil || bytes.Contains(data, key) || bytes.Contains(data, []byte("MDEyMzQ1Njc4OWFi")) {
		t.Errorf("the audit log holds a key: %v", err)
	}
}

func TestWrapKeyRefused(t *testing.T) {
	symmetric(t).checkRefusals(t, []refusal{
		{"an unknown key", api.WrapKey.Path, `{"key":"nothing","plain_key":"` + canary + `"}`, "denied", `"nothing"`},
		{"a key without the grant", api.UnwrapKey.Path, `{"key":"wraps","encrypted_key":"` + canary + `"}`, "denied", "unwrap-key"},
		{"a key to sign with", api.WrapKey.Path, `{"key":"mac","plain_key":"` + canary + `"}`, "denied", "wrap-key"},
		{"an unknown form", api.WrapKey.Path, `{"key":"kek","form":"` + canary + `","plain_key":"AA"}`, "invalid", "form"},
		{"a form with RSA", api.WrapKey.Path, `{"key":"rsa","form":"rfc3394","plain_key":"` + canary + `"}`, "invalid", "form"},
		{"no multiple of 8", api.WrapKey.Path, `{"key":"kek","plain_key":"` + canary + `"}`, "invalid", "multiple of 8"},
		{"nothing to wrap", api.WrapKey.Path, `{"key":"rsa"}`, "invalid", "wraps"},
		{"an alg that is not listed", api.UnwrapKey.Path, `{"key":"kek","alg":"A128KW","encrypted_key":"` + canary + `"}`, "unsupported", "A128KW"},
		{"A*GCMKW", api.WrapKey.Path, `{"key":"gcm","plain_key":"` + canary + `"}`, "unsupported", "A128GCMKW"},
		{"an unknown version", api.UnwrapKey.Path, `{"key":"kek","kid":"x","encrypted_key":"` + canary + `"}`, "not_found", "kid"},
		{"an unknown member", api.UnwrapKey.Path, `{"key":"kek","cek":"` + canary + `"}`, "invalid", "/cek"},
		{"no base64url", api.WrapKey.Path, `{"key":"kek","plain_key":"` + canary + `=="}`, "invalid", "/plain_key"},
	})
}
