//go:build !noaws

package awskms_test

import (
	"crypto"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"signetd/backends/awskms"
	"signetd/backends/awskms/awskmstest"
)

// A sts is as much of AWS STS as AssumeRole needs.
type sts struct {
	t     *testing.T
	calls atomic.Int64
	asked atomic.Pointer[url.Values]
}

const assumed = `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIA%[1]d</AccessKeyId><SecretAccessKey>secret%[1]d</SecretAccessKey><SessionToken>token%[1]d</SessionToken><Expiration>%[2]s</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>`

// ServeHTTP implements [http.Handler]: each call gives other credentials.
func (s *sts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.t.Error(err)
	}
	s.asked.Store(&r.PostForm)
	w.Header().Set("Content-Type", "text/xml")
	_, _ = fmt.Fprintf(w, assumed, s.calls.Add(1), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)) // the SDK sees it, or is gone
}

// TestAssumeRole takes on a role, keeps to its credentials, and asks for others when
// AWS says that they have expired.
func TestAssumeRole(t *testing.T) {
	service := &sts{t: t}
	stsServer := httptest.NewServer(service)
	t.Cleanup(stsServer.Close)
	server := awskmstest.New(t, awskmstest.Config{})
	role := awskms.AssumeRole{ARN: "arn:aws:iam::111122223333:role/signetd", ExternalID: "issuer-7", SessionName: "host-1"}
	server.Setenv(t)
	t.Setenv("AWS_ENDPOINT_URL_STS", stsServer.URL)
	server.SetCredentials("ASIA1", "secret1", "token1")
	b, err := awskms.Open(t.Context(), awskms.Config{Region: server.Region(), Endpoint: server.URL(), AssumeRole: &role})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOK(t, b) })
	k := openSigner(t, b, server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY"))
	sign := func(wantCalls int64) {
		t.Helper()
		if _, err := k.SignContext(t.Context(), make([]byte, 32), crypto.SHA256); err != nil {
			t.Error(err)
		}
		if n := service.calls.Load(); n != wantCalls {
			t.Errorf("%d calls of AssumeRole, want %d", n, wantCalls)
		}
	}
	sign(1)
	sign(1)
	form := *service.asked.Load()
	for member, want := range map[string]string{"Action": "AssumeRole", "RoleArn": role.ARN, "ExternalId": role.ExternalID, "RoleSessionName": role.SessionName} {
		if got := form.Get(member); got != want {
			t.Errorf("AssumeRole with %s %q, want %q", member, got, want)
		}
	}
	server.SetCredentials("ASIA2", "secret2", "token2")
	server.Inject("Sign", 1, 1, awskmstest.ExpiredCredentials())
	sign(2)
}
