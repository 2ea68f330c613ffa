//go:build cgo

package pkcs11

import (
	"context"
	"fmt"
)

// Inspect looks at a module, its tokens, and the given keys of the token that cfg names, in
// the way that Open and OpenKey would use them. The report says what is wrong and what to
// do about it. Inspect returns no error: everything that goes wrong is a finding.
//
// It makes one login attempt at most, and none when that could lock the token. Without
// Token and Serial it lists the slots and stops there; without PINFile it does not log in.
//
// If ctx ends first, Inspect returns a report that names the step it was in. Calls into the
// module may then still run, and the process should end.
func Inspect(ctx context.Context, cfg Config, keys []KeyRef) Report {
	in := newInspection(cfg, keys)
	in.at(ctx, "begin")
	done := make(chan struct{})
	go func() { // ends when the module's calls have returned
		defer close(done)
		in.run(ctx)
	}()

	select {
	case <-done:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		return in.Report
	}

	r := newInspection(cfg, keys).Report // in's own may still be written
	r.add(Fail, "timeout", "module", fmt.Sprintf("no answer in time: the doctor was about to %s", *in.step.Load()),
		"see whether the HSM can be reached and the module's own service runs; then give it more time")
	return r
}

func (in *inspection) run(ctx context.Context) {
	m := in.loadModule(ctx)
	if m == nil {
		return
	}
	in.askModule(ctx, m)

	if in.mayChoose() {
		if token := in.chooseToken(ctx, m); token != nil && in.mayLogIn(token) {
			in.useToken(ctx, m, token)
		}
	}

	in.at(ctx, "finalise the module")
	if err := m.Release(); err != nil {
		in.add(Warn, "finalize", "module", words(err), "report it to the module's vendor")
	}
}
