//go:build linux && cgo

package main

import (
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// p256 is the object identifier of the curve P-256 in DER (RFC 5480 section 2.1.1.1).
var p256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}

// fill makes a P-256 key pair for each label, all in one session: `signetd hsm keygen`
// is a process and a login for each.
func fill(j job) error {
	t := &tokenTarget{}
	if _, err := t.login(j); err != nil {
		return err
	}
	s, err := t.ctx.OpenSession(t.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	for i, label := range j.Labels {
		name := []*p11.Attribute{
			p11.NewAttribute(p11.CKA_LABEL, label), p11.NewAttribute(p11.CKA_ID, fmt.Appendf(nil, "more%d", i)), p11.NewAttribute(p11.CKA_TOKEN, true),
		}
		public := append(name[:len(name):len(name)], p11.NewAttribute(p11.CKA_EC_PARAMS, p256), p11.NewAttribute(p11.CKA_VERIFY, true))
		private := append(name[:len(name):len(name)], p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SENSITIVE, true),
			p11.NewAttribute(p11.CKA_EXTRACTABLE, false), p11.NewAttribute(p11.CKA_SIGN, true))
		if _, _, err := t.ctx.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}, public, private); err != nil {
			return errors.Join(fmt.Errorf("key %d: %w", i, err), t.ctx.CloseSession(s))
		}
	}
	return t.ctx.CloseSession(s)
}
