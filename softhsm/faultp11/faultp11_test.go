//go:build cgo

package faultp11_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
	"signetd/softhsm/faultp11"
)

var ecdsa = []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}

// A rig is a SoftHSM2 token behind a fault module, logged in to.
type rig struct {
	*p11.Ctx
	t    *testing.T
	f    *faultp11.Module
	slot uint
	s    p11.SessionHandle
	key  p11.ObjectHandle
}

func newRig(t *testing.T) rig {
	t.Helper()
	token := softhsm.New(t)
	token.Generate(t, "k", provision.ECP256, signer.UseSig)
	r := rig{t: t, f: faultp11.New(t, token.Module())}
	r.Ctx = p11.New(r.f.Module())
	if r.Ctx == nil {
		t.Fatal("the module does not load")
	}
	r.check("C_Initialize", r.Initialize())
	t.Cleanup(func() { r.check("C_Finalize", r.Finalize()) })
	slots, err := r.GetSlotList(true)
	r.check("C_GetSlotList", err)
	r.slot = slots[0]
	r.s = r.open()
	r.check("C_Login", r.Login(r.s, p11.CKU_USER, token.PIN()))
	r.check("C_FindObjectsInit", r.FindObjectsInit(r.s, []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY)}))
	keys, _, err := r.FindObjects(r.s, 2)
	r.check("C_FindObjects", err)
	r.check("C_FindObjectsFinal", r.FindObjectsFinal(r.s))
	if len(keys) != 1 {
		t.Fatalf("%d keys", len(keys))
	}
	r.key = keys[0]
	return r
}

func (r rig) check(what string, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

func (r rig) open() p11.SessionHandle {
	r.t.Helper()
	s, err := r.OpenSession(r.slot, p11.CKF_SERIAL_SESSION)
	r.check("C_OpenSession", err)
	return s
}

// sign signs in session s, and returns what C_SignInit or C_Sign answered.
func (r rig) sign(s p11.SessionHandle) error {
	if err := r.SignInit(s, ecdsa, r.key); err != nil {
		return err
	}
	_, err := r.Sign(s, make([]byte, 32))
	return err
}

func (r rig) want(got error, rv uint) {
	r.t.Helper()
	var err p11.Error
	if rv == p11.CKR_OK && got == nil || errors.As(got, &err) && uint(err) == rv {
		return
	}
	r.t.Errorf("got %v, want 0x%x", got, rv)
}

func TestWhichCalls(t *testing.T) {
	r := newRig(t)
	tests := []struct {
		rules  []string
		failed []int
	}{
		{[]string{"C_Sign 3 rv=CKR_DEVICE_ERROR"}, []int{3}},
		{[]string{"C_Sign * rv=0x30"}, []int{1, 2, 3, 4, 5, 6}},
		{[]string{"C_Sign 2-4 rv=48"}, []int{2, 3, 4}},
		{[]string{"C_Sign 5- rv=DEVICE_ERROR"}, []int{5, 6}},
		{[]string{"C_SignInit 4 rv=CKR_DEVICE_ERROR", "C_Sign 1 rv=CKR_DEVICE_ERROR"}, []int{1, 4}},
		{[]string{"C_Sign 1-2 rv=CKR_DEVICE_ERROR", "C_Sign 2 rv=CKR_HOST_MEMORY"}, []int{1, 2}}, // the first line acts
		{[]string{"* 2 rv=CKR_DEVICE_ERROR"}, []int{1}},                                          // the second call of all is the first C_Sign's
		{[]string{"C_Sign 1 mech=CKM_ECDSA rv=CKR_DEVICE_ERROR", "C_Sign 1 mech=CKM_EDDSA rv=CKR_HOST_MEMORY"}, []int{1}},
		{[]string{"C_Sign 2 query rv=CKR_DEVICE_ERROR"}, []int{2}},
	}

	for _, tt := range tests {
		t.Run(strings.Join(tt.rules, "; "), func(t *testing.T) {
			lift := r.f.Inject(tt.rules...)
			var failed []int
			for n := 1; n <= 6; n++ {
				err := r.sign(r.s)
				if err != nil {
					failed = append(failed, n)
					rig{t: t}.want(err, p11.CKR_DEVICE_ERROR)
				}
				if err != nil && strings.Contains(tt.rules[0], "query") {
					_, err = r.Sign(r.s, make([]byte, 32)) // a query ends no operation
					rig{t: t}.want(err, p11.CKR_OK)
				}
			}
			if !slices.Equal(failed, tt.failed) {
				t.Errorf("signatures %v failed, want %v", failed, tt.failed)
			}
			lift()
			lift()
			rig{t: t}.want(r.sign(r.s), p11.CKR_OK)
		})
	}
}

func TestTheSameRuleAgain(t *testing.T) {
	r := newRig(t)
	for range 3 {
		r.f.Inject("C_Sign 1 rv=CKR_DEVICE_ERROR")
		r.want(r.sign(r.s), p11.CKR_DEVICE_ERROR)
		r.f.Inject("C_GenerateRandom 1 rv=CKR_DEVICE_ERROR") // counts of other lines stay
		r.want(r.sign(r.s), p11.CKR_OK)
		r.f.Clear()
	}
}

func TestSleep(t *testing.T) {
	r := newRig(t)
	r.f.Inject("C_Sign 1 sleep=300ms")
	start := time.Now()
	r.want(r.sign(r.s), p11.CKR_OK)
	if d := time.Since(start); d < 300*time.Millisecond {
		t.Errorf("it took %v, want 300 ms or more", d)
	}
	r.f.Inject("C_Sign 1 sleep=1ms rv=CKR_FUNCTION_FAILED")
	r.want(r.sign(r.s), p11.CKR_FUNCTION_FAILED)
}

// hangOne starts a signature in session s that hangs, and returns when it does.
func (r rig) hangOne(s p11.SessionHandle) (lift func(), done <-chan error) {
	r.t.Helper()
	lift = r.f.Inject("C_Sign 1 hang")
	c := make(chan error, 1)
	go func() {
		c <- r.sign(s)
	}()
	for deadline := time.Now().Add(10 * time.Second); r.f.Count("C_Sign").Running == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("no call hangs")
		}
	}
	return lift, c
}

func TestHang(t *testing.T) {
	r := newRig(t)
	lift, done := r.hangOne(r.s)
	r.want(r.sign(r.open()), p11.CKR_OK)              // others go on
	r.f.Inject("C_GetSlotInfo 1 rv=CKR_DEVICE_ERROR") // another change of the file does not end the hang
	select {
	case err := <-done:
		t.Fatalf("the call returned: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	lift()
	r.want(<-done, p11.CKR_OK)
}

func TestSpoiltAnswer(t *testing.T) {
	r := newRig(t)
	r.f.Inject("C_GenerateRandom 2 rv=CKR_OK", "C_Digest 2 flip", "C_Digest 3 short=5")
	digest := func() []byte {
		r.check("C_DigestInit", r.DigestInit(r.s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_SHA256, nil)}))
		out, err := r.Digest(r.s, []byte("x"))
		r.check("C_Digest", err)
		return out
	}
	good, flipped, short := digest(), digest(), digest()
	good[16] ^= 1
	if !bytes.Equal(good, flipped) {
		t.Errorf("flip made %x of %x", flipped, good)
	}
	good[16] ^= 1
	if !bytes.Equal(good[:27], short) {
		t.Errorf("short=5 made %x of %x", short, good)
	}

	for _, zero := range []bool{false, true} {
		random, err := r.GenerateRandom(r.s, 16)
		if got := bytes.Equal(random, make([]byte, 16)); err != nil || got != zero {
			t.Errorf("C_GenerateRandom = %x, %v; untouched: %t", random, err, zero)
		}
	}
}

// A failed operation is over, unless a rule leaves it.
func TestOperationEnds(t *testing.T) {
	r := newRig(t)
	r.f.Inject("C_Sign 1 rv=CKR_GENERAL_ERROR", "C_Sign 2 rv=CKR_GENERAL_ERROR leave")
	for range 2 {
		r.want(r.sign(r.s), p11.CKR_GENERAL_ERROR)
	}
	r.want(r.sign(r.s), p11.CKR_OPERATION_ACTIVE)
	_, err := r.Sign(r.s, make([]byte, 32)) // the one that was left
	r.want(err, p11.CKR_OK)
}

func TestSessionLimit(t *testing.T) {
	r := newRig(t) // with one session
	lift := r.f.Inject("sessions 3")
	info, err := r.GetTokenInfo(r.slot)
	r.check("C_GetTokenInfo", err)
	if info.MaxSessionCount != 3 || info.MaxRwSessionCount != 3 {
		t.Errorf("the token says that it has %d sessions, want 3", info.MaxSessionCount)
	}
	second := r.open()
	r.open()
	_, err = r.OpenSession(r.slot, p11.CKF_SERIAL_SESSION)
	r.want(err, p11.CKR_SESSION_COUNT)
	r.check("C_CloseSession", r.CloseSession(second))
	r.open()
	if got := r.f.Count("sessions"); got.Calls != 4 || got.Running != 3 || got.Faults != 1 {
		t.Errorf("sessions: %+v, want 4 opened, 3 open, 1 refused", got)
	}
	lift()
	r.f.Inject("sessions 1 silent")
	if info, err = r.GetTokenInfo(r.slot); err != nil || info.MaxSessionCount == 1 {
		t.Errorf("a silent limit shows: %+v, %v", info, err)
	}
	r.check("C_CloseAllSessions", r.CloseAllSessions(r.slot))
	r.open()
	_, err = r.OpenSession(r.slot, p11.CKF_SERIAL_SESSION)
	r.want(err, p11.CKR_SESSION_COUNT)
}

func TestTokenInfo(t *testing.T) {
	r := newRig(t)
	before, err := r.GetTokenInfo(r.slot)
	r.check("C_GetTokenInfo", err)
	r.f.Inject("token-flags +USER_PIN_LOCKED -CKF_LOGIN_REQUIRED +0x20000", "serial 0123")
	after, err := r.GetTokenInfo(r.slot)
	r.check("C_GetTokenInfo", err)
	if want := before.Flags&^p11.CKF_LOGIN_REQUIRED | p11.CKF_USER_PIN_LOCKED | p11.CKF_USER_PIN_FINAL_TRY; after.Flags != want {
		t.Errorf("flags are 0x%x, want 0x%x", after.Flags, want)
	}
	if after.SerialNumber != "0123" || after.Label != before.Label {
		t.Errorf("the token is %q with serial %q", after.Label, after.SerialNumber)
	}
}

// What a program must not do is counted: PKCS#11 leaves it undefined, and
// SoftHSM2 answers with a crash.
func TestBusy(t *testing.T) {
	r := newRig(t)
	busy := r.open()
	lift, done := r.hangOne(busy)
	_, _ = r.GetSessionInfo(busy)
	r.check("C_Logout", r.Logout(r.s))
	r.check("C_CloseSession", r.CloseSession(busy))
	lift()
	r.want(<-done, p11.CKR_SESSION_HANDLE_INVALID)
	if r.sign(r.open()) == nil {
		t.Error("C_Logout did not reach the token")
	}

	for name, want := range map[string]int{"shared-session": 1, "busy-logout": 1, "busy-close": 1, "busy-finalize": 0} {
		if got := r.f.Count(name).Calls; got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

// Sixteen threads at once: every call is counted, and exactly the calls that a
// rule names fail.
func TestExactUnderThreads(t *testing.T) {
	r := newRig(t)
	const threads, rounds = 16, 200
	before := r.f.Counts()
	r.f.Inject("C_Sign 101-150 rv=CKR_DEVICE_ERROR", "C_SignInit 7 rv=CKR_HOST_MEMORY")
	var wg sync.WaitGroup
	var device, memory, good, other atomic.Int64

	for range threads {
		s := r.open()
		wg.Go(func() {
			for range rounds {
				err := r.sign(s)
				var rv p11.Error
				switch errors.As(err, &rv); {
				case err == nil:
					good.Add(1)
				case rv == p11.CKR_DEVICE_ERROR:
					device.Add(1)
				case rv == p11.CKR_HOST_MEMORY:
					memory.Add(1)
				default:
					other.Add(1)
				}
			}
		})
	}
	for range 50 { // meanwhile the file changes
		r.f.Inject("C_GetInfo 1 rv=CKR_DEVICE_ERROR")()
	}
	wg.Wait()
	if device.Load() != 50 || memory.Load() != 1 || other.Load() != 0 || good.Load() != threads*rounds-51 {
		t.Errorf("%d good, %d device, %d memory, %d other", good.Load(), device.Load(), memory.Load(), other.Load())
	}
	after := r.f.Counts()
	want := map[string]faultp11.Count{
		"C_SignInit":     {Calls: threads * rounds, Faults: 1, Failed: 1},
		"C_Sign":         {Calls: threads*rounds - 1, Queries: threads*rounds - 1, Faults: 50, Failed: 50},
		"C_OpenSession":  {Calls: before["C_OpenSession"].Calls + threads},
		"sessions":       {Calls: 1 + threads, Running: 1 + threads},
		"shared-session": {},
		"C_Login":        {Calls: 1},
	}

	for name, count := range want {
		if after[name] != count {
			t.Errorf("%s: %+v, want %+v", name, after[name], count)
		}
	}
}

func TestCrash(t *testing.T) {
	tool, err := exec.LookPath("pkcs11-tool")
	if err != nil {
		if os.Getenv("REQUIRE_TOKENS") == "1" {
			t.Fatal(err)
		}
		t.Skip("pkcs11-tool (package opensc) is not installed")
	}
	token := softhsm.New(t)
	f := faultp11.New(t, token.Module())
	f.Inject("C_Login 1 crash")
	run := func() error {
		cmd := exec.Command(tool, "--module", f.Module(), "--token-label", token.Label(), "--login", "--pin", token.PIN(), "--list-objects")
		cmd.Env = append(os.Environ(), f.Env()...)
		return cmd.Run()
	}
	var exit *exec.ExitError
	if err := run(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGSEGV {
		t.Errorf("pkcs11-tool: %v, want a segmentation fault", err)
	}
	f.Clear()
	if err := run(); err != nil {
		t.Errorf("pkcs11-tool without a rule: %v", err)
	}
	if got := f.Count("C_Login"); got != (faultp11.Count{Calls: 2, Faults: 1, Running: 1}) {
		t.Errorf("C_Login of two processes: %+v, want 2 calls, one of which never returned", got)
	}
}
