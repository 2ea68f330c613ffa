package daemon

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// TestEveryOperationAsksThePolicy has a peer without a grant try each operation of the
// table on a key that exists and on one that does not: both are denied in the same words.
func TestEveryOperationAsksThePolicy(t *testing.T) {
	f := serve(t, Limits{})
	f.setup.Policy, f.setup.Backends = nobody(t), nil
	f.service.Swap(f.setup)

	keyless := map[string]bool{api.VerifyJWT.Path: true, api.ReloadConfig.Path: true}
	for _, r := range api.Routes {
		if r.Op == "" {
			continue
		}
		var answers []string
		for _, key := range []string{"oidc", "inbox", "nothing"} {
			body := `{"key":"` + key + `"}`
			if keyless[r.Path] {
				body = `{}`
			}
			status, answer := f.do(t, r.Method, strings.Replace(r.Path, "{name}", key, 1), body)
			if status != http.StatusForbidden || errorCode(t, answer) != "denied" {
				t.Errorf("operation %s (%s %s) on key %q = %d %s for a peer without a grant: does its grant function ask the policy?", r.Op, r.Method, r.Path, key, status, answer)
			}
			message, _, _ := strings.Cut(answer, `"request_id"`)
			answers = append(answers, strings.ReplaceAll(message, key, "KEY"))
		}
		if answers[0] != answers[2] || answers[1] != answers[2] {
			t.Errorf("operation %s tells keys that exist from others: %q", r.Op, answers)
		}
	}
}

// nobody is a policy over the keys of a fixture without any grant.
func nobody(t *testing.T) *policy.Policy {
	t.Helper()
	p, err := policy.New([]policy.Key{{Name: "oidc", Use: signer.UseSig}, {Name: "notes", Use: signer.UseSig}, {Name: "inbox", Use: signer.UseEnc}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestGrantMustAsk: an operation whose grant function returns without a question to the
// policy is not performed, and the log names it.
func TestGrantMustAsk(t *testing.T) {
	f := serve(t, Limits{})
	op := operation[struct{}, struct{}]{
		Endpoint: api.Endpoint[struct{}, struct{}]{Route: api.Route{Op: "careless"}},
		access:   access[struct{}]{grant: func(*applicant, *struct{}) (string, error) { return "oidc", nil }},
		act: func(context.Context, *call, *struct{}) (*struct{}, error) {
			t.Error("performed")
			return nil, nil //nolint:nilnil // it answers nothing
		},
	}
	q := f.service.Begin(me())
	_, rec, err := perform(t.Context(), f.service, &q, &op, nil)
	if signer.Code(err) != signer.CodeInternal || !strings.Contains(err.Error(), "careless") {
		t.Errorf("perform() = %v, want an internal error that names the operation", err)
	}
	if rec == nil || rec.commit() != nil {
		t.Error("there is no record")
	}
}
