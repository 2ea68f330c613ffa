//go:build cgo && unix

package pkcs11_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
	"signetd/softhsm/faultp11"
)

// The ways in which a token fails, as rules of the fault module. INIT and USE are
// the two calls of an operation, and RV is the answer.
var (
	sessionsGone = []string{"INIT * old rv=RV", "C_GetSessionInfo * old rv=RV"}
	handlesDead  = []string{"INIT * rv=RV until=C_FindObjectsInit"}
	loggedOut    = []string{"INIT 1 logout rv=RV", "INIT * rv=RV until=C_Login"}
	fourCalls    = []string{"USE 1-4 rv=RV"}
	deviceGone   = []string{"* * rv=RV until=C_Initialize"}
	// The token drops the sessions, and then has room for 3 of 5, including the one that
	// keeps the login.
	fewSessions = []string{"sessions 3 silent", "INIT * old rv=CKR_SESSION_HANDLE_INVALID"}
)

// A faultCase is a row of the table.
type faultCase struct {
	rv       string
	how      string
	rules    []string
	outage   time.Duration // of a device, in which C_Initialize and requests fail, too
	logins   uint64
	restarts uint64
	// refused is the number of requests that may fail with ErrDecrypt. If C_Decrypt
	// answers a good ciphertext with a code that tokens also use for a bad one, the request
	// is not tried again: otherwise each bad ciphertext would be tried twice, and the time
	// would tell the codes apart.
	refused int64
}

// faultCases are the answers that a token may give. No request may fail, with two
// exceptions: the device is gone for a while, or C_Decrypt answers what it also answers to
// a bad ciphertext.
func faultCases(decrypts bool) []faultCase {
	const long = 300 * time.Millisecond
	var four, behind int64 // requests that C_Decrypt refuses
	if decrypts {
		four, behind = 4, 4 // in four calls; between C_DecryptInit and C_Decrypt on 4 sessions
	}

	return []faultCase{
		{"CKR_SESSION_HANDLE_INVALID", "sessions gone", sessionsGone, 0, 0, 0, 0},
		{"CKR_SESSION_CLOSED", "sessions gone", sessionsGone, 0, 0, 0, 0},
		{"CKR_OBJECT_HANDLE_INVALID", "handles dead", handlesDead, 0, 0, 0, 0},
		{"CKR_KEY_HANDLE_INVALID", "handles dead", handlesDead, 0, 0, 0, 0},
		{"CKR_USER_NOT_LOGGED_IN", "logged out", loggedOut, 0, 1, 0, 0},
		{"CKR_OPERATION_ACTIVE", "sessions gone", sessionsGone, 0, 0, 0, 0},
		{"CKR_DEVICE_ERROR", "four calls", fourCalls, 0, 0, 0, four},
		{"CKR_DEVICE_ERROR", "device gone", deviceGone, 0, 1, 1, behind},
		{"CKR_DEVICE_ERROR", "device gone", deviceGone, long, 1, 1, behind},
		{"CKR_DEVICE_REMOVED", "device gone", deviceGone, 0, 1, 1, 0},
		{"CKR_DEVICE_REMOVED", "device gone", deviceGone, long, 1, 1, 0},
		{"CKR_DEVICE_MEMORY", "four calls", fourCalls, 0, 0, 0, 0},
		{"CKR_TOKEN_NOT_PRESENT", "device gone", deviceGone, 0, 1, 1, 0},
		{"CKR_TOKEN_NOT_PRESENT", "device gone", deviceGone, long, 1, 1, 0},
		{"CKR_GENERAL_ERROR", "four calls", fourCalls, 0, 0, 0, four},
		{"CKR_GENERAL_ERROR", "device gone", deviceGone, 0, 1, 1, behind},
		{"CKR_CRYPTOKI_NOT_INITIALIZED", "device gone", deviceGone, 0, 1, 1, 0},
		{"CKR_HOST_MEMORY", "four calls", fourCalls, 0, 0, 0, 0},
		{"CKR_SESSION_COUNT", "few sessions", fewSessions, 0, 0, 0, 0},
		{"CKR_FUNCTION_FAILED", "four calls", fourCalls, 0, 0, 0, four},
	}
}

// TestFaultsUnderLoad has a token fail under the load of 32 clients on 4 sessions, which
// sign and then decrypt. It prints a table: how many requests failed, the time from the end
// of the fault to a request that succeeds, and how many logins that took.
func TestFaultsUnderLoad(t *testing.T) {
	token := softhsm.New(t)
	sig := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	enc := token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	table := []string{fmt.Sprintf("%-8s %-28s %-13s %6s %7s %6s %8s %10s %7s %8s",
		"request", "answer", "fault", "outage", "good", "failed", "refused", "healthy in", "logins", "restarts")}

	for _, request := range []string{"sign", "decrypt"} {
		for _, c := range faultCases(request == "decrypt") {
			t.Run(fmt.Sprintf("%s, %s, %s, outage %v", request, c.rv, c.how, c.outage), func(t *testing.T) {
				f, cfg := newFaulty(t, token)
				cfg.Sessions = 4
				b := mustOpen(t, cfg)
				calls := [2]string{"C_SignInit", "C_Sign"}
				var use func(context.Context) error
				if request == "sign" {
					use = signing(t, mustOpenKey(t, b, sig))
				} else {
					calls = [2]string{"C_DecryptInit", "C_Decrypt"}
					use = opening(t, mustOpenKey(t, b, enc), signer.RSAOAEP256)
				}
				row := c.run(t, f, b, calls, use)
				table = append(table, fmt.Sprintf("%-8s %-28s %-13s %6s %s", request, c.rv, c.how, c.outage, row))
			})
		}
	}
	t.Log("\n" + strings.Join(table, "\n"))
}

// run begins the fault under load, checks the outcome, and returns it as a row.
func (c faultCase) run(t *testing.T, f *faultp11.Module, b *pkcs11.Backend, calls [2]string, use func(context.Context) error) (row string) {
	t.Helper()
	before := b.Stats()
	l := startLoad(t, use)
	l.settle(t)
	c.begin(f, calls)
	start := time.Now()
	waitFor(t, func() bool { return use(t.Context()) == nil })
	healthy := time.Since(start)
	l.settle(t) // requests that began before it was healthy
	failed := l.failed.Load()
	l.settle(t)
	l.end()
	if c.hits(f) == 0 {
		t.Error("the fault hit no call")
	}
	f.Clear()
	after := b.Stats()
	logins, restarts := after.LoginsTotal-before.LoginsTotal, after.RestartsTotal-before.RestartsTotal

	switch n := l.failed.Load(); {
	case n != failed:
		t.Errorf("%d requests failed after it was healthy, one with %v", n-failed, *l.last.Load())
	case c.outage == 0 && n != 0:
		t.Errorf("%d requests failed, one with %v", n, *l.last.Load())
	case c.outage > 0 && n == 0:
		t.Error("no request failed in an outage: there was none")
	}
	// In a fault of four calls, one may be a call of the request that waits for health.
	if n := l.refused.Load(); n > c.refused || c.how == "four calls" && n < c.refused-1 {
		t.Errorf("%d requests were refused, want %d", n, c.refused)
	}
	if healthy > time.Second {
		t.Errorf("healthy only after %v", healthy)
	}
	// The number of restarts is not fixed in an outage, which takes as many attempts as it
	// lasts, and after a logout, which may look like a lost device to the operation that it
	// interrupts.
	exact := c.outage == 0 && c.how != "logged out"
	if logins != c.logins || restarts < c.restarts || exact && restarts != c.restarts {
		t.Errorf("%d logins and %d restarts, want %d and %d", logins, restarts, c.logins, c.restarts)
	}
	return fmt.Sprintf("%7d %6d %8d %10v %7d %8d", l.done.Load(), l.failed.Load(), l.refused.Load(), healthy.Round(100*time.Microsecond), logins, restarts)
}

// hits returns how many calls had the answer of the fault.
func (c faultCase) hits(f *faultp11.Module) (n int) {
	if c.rv == "CKR_SESSION_COUNT" {
		return f.Count("sessions").Faults
	}
	for _, count := range f.Counts() {
		n += count.Faults
	}
	return n
}

// begin begins the fault, and returns when its outage has ended.
func (c faultCase) begin(f *faultp11.Module, calls [2]string) {
	var rules []string
	for _, r := range c.rules {
		rules = append(rules, strings.NewReplacer("INIT", calls[0], "USE", calls[1], "RV", c.rv).Replace(r))
	}
	if c.outage > 0 {
		defer f.Inject("C_Initialize * rv=" + c.rv)()
	}
	f.Inject(rules...)
	time.Sleep(c.outage)
}
