//go:build cgo

package faultp11_test

import (
	"runtime"
	"slices"
	"testing"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"signetd/softhsm"
	"signetd/softhsm/faultp11"
)

// A line with until= ends with the call that heals, and not with one that was to
// and failed.
func TestUntil(t *testing.T) {
	r := newRig(t)
	r.f.Inject("C_Sign * rv=CKR_USER_NOT_LOGGED_IN until=C_GenerateRandom", "C_GenerateRandom 1 rv=CKR_DEVICE_ERROR")
	r.want(r.sign(r.s), p11.CKR_USER_NOT_LOGGED_IN)
	_, err := r.GenerateRandom(r.s, 16)
	r.want(err, p11.CKR_DEVICE_ERROR)
	r.want(r.sign(r.s), p11.CKR_USER_NOT_LOGGED_IN)
	_, err = r.GenerateRandom(r.s, 16)
	r.want(err, p11.CKR_OK)
	r.f.Inject("C_GetInfo 1 rv=CKR_DEVICE_ERROR") // what is over stays over
	r.want(r.sign(r.s), p11.CKR_OK)

	r.f.Clear()
	r.f.Inject("* * rv=CKR_DEVICE_REMOVED until=C_FindObjectsInit")
	r.want(r.sign(r.s), p11.CKR_DEVICE_REMOVED)
	r.want(r.FindObjectsInit(r.s, nil), p11.CKR_OK) // it does not fit that function
	r.want(r.FindObjectsFinal(r.s), p11.CKR_OK)
	r.want(r.sign(r.s), p11.CKR_OK)
}

func TestOldSessions(t *testing.T) {
	r := newRig(t)
	r.f.Inject("C_SignInit * old rv=CKR_SESSION_HANDLE_INVALID", "C_GetInfo * old rv=CKR_DEVICE_ERROR")
	r.want(r.sign(r.s), p11.CKR_SESSION_HANDLE_INVALID)
	s := r.open()
	r.f.Inject("C_GenerateRandom 1 rv=CKR_DEVICE_ERROR") // another change of the file makes no session old
	r.want(r.sign(s), p11.CKR_OK)
	r.want(r.sign(r.s), p11.CKR_SESSION_HANDLE_INVALID)
	_, err := r.GetInfo() // has no session
	r.want(err, p11.CKR_OK)
}

// The user is logged out in every session before any call returns the fault.
func TestLogout(t *testing.T) {
	r := newRig(t)
	other := r.open()
	r.f.Inject("C_SignInit 1 logout rv=CKR_USER_NOT_LOGGED_IN")
	r.want(r.sign(r.s), p11.CKR_USER_NOT_LOGGED_IN)
	for _, s := range []p11.SessionHandle{r.s, other} {
		if info, err := r.GetSessionInfo(s); err != nil || info.State == p11.CKS_RO_USER_FUNCTIONS {
			t.Errorf("state %d, %v: still logged in", info.State, err)
		}
	}
}

func TestDeadSlot(t *testing.T) {
	r := newRig(t)
	before, err := r.GetSlotList(true)
	r.check("C_GetSlotList", err)
	r.f.Inject("dead-slot 7777")
	after, err := r.GetSlotList(true)
	r.check("C_GetSlotList", err)
	if want := slices.Concat([]uint{7777}, before); !slices.Equal(after, want) {
		t.Errorf("slots are %v, want %v", after, want)
	}
	_, err = r.GetTokenInfo(7777)
	r.want(err, p11.CKR_DEVICE_ERROR)
	_, err = r.GetTokenInfo(r.slot)
	r.want(err, p11.CKR_OK)
}

// What a program leaves open is counted: at each C_Finalize, and at the last.
func TestLeftOpen(t *testing.T) {
	token := softhsm.New(t)
	f := faultp11.New(t, token.Module())
	ctx := p11.New(f.Module())
	for i, want := range []faultp11.Count{{Calls: 2, Running: 2}, {Calls: 2}, {Calls: 3, Running: 1}} {
		if err := ctx.Initialize(); err != nil {
			t.Fatal(err)
		}
		slots, err := ctx.GetSlotList(true)
		if err != nil {
			t.Fatal(err)
		}
		for range want.Running {
			if _, err := ctx.OpenSession(slots[0], p11.CKF_SERIAL_SESSION); err != nil {
				t.Fatal(err)
			}
		}
		if err := ctx.Finalize(); err != nil {
			t.Fatal(err)
		}
		if got := f.Count("left-open"); got != want {
			t.Errorf("C_Finalize number %d: %+v, want %+v", i+1, got, want)
		}
	}
}

// A module that wants a string gets it from a program that has one.
func TestInitArgs(t *testing.T) {
	token := softhsm.New(t)
	f := faultp11.New(t, token.Module())
	f.Inject("init-args configdir='sql:/dir' flags=")
	ctx := p11.New(f.Module())
	for _, tt := range []struct {
		args string
		rv   uint
	}{{"", p11.CKR_ARGUMENTS_BAD}, {"flags=", p11.CKR_ARGUMENTS_BAD}, {"configdir='sql:/dir' flags=", p11.CKR_OK}} {
		var options []p11.InitializeOption
		if tt.args != "" {
			text := append([]byte(tt.args), 0)
			var pinner runtime.Pinner
			pinner.Pin(&text[0])
			defer pinner.Unpin()
			options = append(options, p11.InitializeWithReserved(unsafe.Pointer(&text[0]))) // #nosec G103 -- pinned
		}
		rig{t: t}.want(ctx.Initialize(options...), tt.rv)
	}
	if err := ctx.Finalize(); err != nil {
		t.Fatal(err)
	}
}
