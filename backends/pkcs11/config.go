package pkcs11

import (
	"cmp"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"signetd/backends/pkcs11/pool"
	"signetd/signer"
)

// maxSessions bounds Config.Sessions. Each call into the module occupies an OS thread, and
// the Go runtime ends a process that has 10000 of them.
const maxSessions = 1024

const defaultQueue = 256

// A Config names a token and says how to log in to it.
type Config struct {
	// Module is the absolute path of the PKCS#11 library, for example
	// /usr/lib/softhsm/libsofthsm2.so.
	Module string `yaml:"module"`

	// Token is the label of the token. Optional if Serial is set.
	Token string `yaml:"token"`
	// Serial is the serial number of the token. Optional if Token is set. When both are
	// set, both must match.
	Serial string `yaml:"serial"`

	// PINFile is the path of a file that holds the user PIN and at most one newline after
	// it. Users other than its owner and group may not read it.
	PINFile string `yaml:"pin_file"`

	// Sessions is the number of sessions, and so of operations that the token works on
	// at once. Optional: four times the number of CPUs by default, and never more than
	// the token allows.
	Sessions int `yaml:"sessions"`
	// Queue is how many operations may wait for a session. One more is refused with
	// ErrOverloaded. Optional: 256 by default.
	Queue int `yaml:"queue"`
	// KeepAlive is the time without use after which a session is used for a cheap call,
	// so that an HSM that drops idle sessions keeps it: a duration such as "20s", of 1s or
	// more. Optional: off by default.
	KeepAlive string `yaml:"keep_alive"`

	// InitArgs is the string that C_Initialize gets as pReserved. Optional: NSS needs
	// configdir='sql:/dir' certPrefix='' keyPrefix='' secmod='secmod.db' flags=
	InitArgs string `yaml:"init_args"`

	// HoldCEK has the token decrypt the content of a JWE for RSA-OAEP, too: the CEK is
	// unwrapped to a key that stays in the token. The RSA key needs CKA_UNWRAP, enc must be
	// A128GCM, A192GCM or A256GCM, and /v1/cek/unwrap cannot return the CEK. Optional: off
	// by default, but for keys that can work in no other way.
	HoldCEK bool `yaml:"hold_cek"`
}

func (c Config) check() error {
	switch {
	case c.Module == "":
		return fmt.Errorf("%w: pkcs11: module is missing: the path of the PKCS#11 library", signer.ErrInvalid)
	case !filepath.IsAbs(c.Module):
		return fmt.Errorf("%w: pkcs11: module %q is not an absolute path", signer.ErrInvalid, c.Module)
	case c.Token == "" && c.Serial == "":
		return fmt.Errorf("%w: pkcs11: token or serial must be set", signer.ErrInvalid)
	case c.PINFile == "":
		return fmt.Errorf("%w: pkcs11: pin_file is missing: the path of the file that holds the PIN", signer.ErrInvalid)
	case c.Sessions < 0 || c.Sessions > maxSessions:
		return fmt.Errorf("%w: pkcs11: sessions is %d, not 0 to %d", signer.ErrInvalid, c.Sessions, maxSessions)
	case strings.ContainsRune(c.InitArgs, 0):
		return fmt.Errorf("%w: pkcs11: init_args has a zero byte", signer.ErrInvalid)
	case c.KeepAlive != "" && c.keepAlive() < time.Second:
		return fmt.Errorf("%w: pkcs11: keep_alive is not a duration of 1s or more, such as 20s", signer.ErrInvalid)
	case c.Queue < 0:
		return fmt.Errorf("%w: pkcs11: queue is %d, and cannot be negative", signer.ErrInvalid, c.Queue)
	}

	return nil
}

// keepAlive returns KeepAlive as a duration, or 0 if it is not one.
func (c Config) keepAlive() time.Duration {
	d, _ := time.ParseDuration(c.KeepAlive)
	return d
}

// sessions returns how many sessions to use on a token that allows limit of them, or any
// number if limit is 0. One of them keeps the login alive.
func (c Config) sessions(limit uint) int {
	n := cmp.Or(c.Sessions, min(4*runtime.NumCPU(), maxSessions))
	if limit > 0 && limit <= maxSessions {
		n = min(n, max(int(limit)-1, 1))
	}
	return n
}

// Stats says what a [Backend] is doing and did since it was opened.
type Stats struct {
	pool.Stats // of its sessions

	Down bool // the token is gone, and every operation is refused

	RepairsTotal  uint64 // times that the login and the keys were found again
	RestartsTotal uint64 // attempts at that which initialised the module anew
	LoginsTotal   uint64 // calls of C_Login, by all backends of the token in this process
}
