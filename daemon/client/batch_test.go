package client_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"signetd/daemon/api"
	"signetd/daemon/client"
	"signetd/signer"
)

func TestBatch(t *testing.T) {
	c, ctx := connectDaemon(t), t.Context()
	results, err := client.Batch(ctx, c, api.SignJWT, []api.SignJWTRequest{
		{Key: "oidc", Claims: json.RawMessage(`{"aud":"api"}`)},
		{Key: "nothing", Claims: json.RawMessage(`{}`)},
		{Key: "oidc", Claims: json.RawMessage(`{"aud":"api"}`), TTL: 10},
	})
	if err != nil || len(results) != 3 {
		t.Fatalf("Batch() = %+v, %v; want 3 results", results, err)
	}
	for _, i := range []int{0, 2} {
		if r := results[i]; r.Err != nil || r.Answer.Token == "" || r.Answer.KID == "" {
			t.Errorf("result %d = %+v", i, r)
		}
	}
	var e *client.Error
	if r := results[1]; !errors.Is(r.Err, signer.ErrDenied) || !errors.As(r.Err, &e) || e.RequestID == "" || r.Answer != nil {
		t.Errorf("result 1 = %+v, want ErrDenied with the id of the request", r)
	}

	opened, err := client.Batch(ctx, c, api.DecryptJWE, []api.DecryptJWERequest{{JWE: "a.b.c.d.e"}})
	if err != nil || len(opened) != 1 || opened[0].Err == nil || opened[0].Err.Error() != signer.ErrDecrypt.Error() {
		t.Errorf("Batch() = %+v, %v; want the one text of ErrDecrypt", opened, err)
	}

	if r, err := client.Batch(ctx, c, api.ReloadConfig, make([]api.Reload, 1)); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Batch() of reloads = %+v, %v; want ErrInvalid", r, err)
	}
	if r, err := client.Batch(ctx, c, api.SignJWT, nil); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Batch() of nothing = %+v, %v; want ErrInvalid", r, err)
	}
	if r, err := client.Batch(ctx, c, api.SignJWT, make([]api.SignJWTRequest, 65)); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Batch() of 65 = %+v, %v; want ErrInvalid", r, err)
	}
}

func TestBatchAnswerIsNoAPI(t *testing.T) {
	const part = "c2VjcmV0"
	for name, body := range map[string]any{
		"fewer results":     map[string]any{"results": []any{}},
		"a result no API":   map[string]any{"results": []any{part}},
		"no results":        part,
		"of the wrong type": map[string]any{"results": []any{map[string]any{"cek": 1}}},
	} {
		c := connect(t, respond(http.StatusOK, body))
		r, err := client.Batch(t.Context(), c, api.UnwrapCEK, make([]api.UnwrapCEKRequest, 1))
		if err == nil && (len(r) != 1 || r[0].Err == nil || r[0].Answer != nil) {
			t.Errorf("%s: Batch() = %+v, want an error", name, r)
		}
	}
}
