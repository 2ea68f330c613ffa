//go:build !cgo

package pkcs11

import "context"

// Inspect reports that this build has no PKCS#11.
func Inspect(_ context.Context, cfg Config, _ []KeyRef) Report {
	r := Report{Module: ModuleReport{Path: cfg.Module}, Slots: []SlotReport{}, Keys: []KeyReport{}}
	r.find(Fail, "build", "signetd", errNoCgo().Error(), "run a signetd that was built with cgo")
	return r
}
