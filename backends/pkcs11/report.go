package pkcs11

import (
	"slices"
	"time"

	"signetd/signer"
)

// A Report is what [Inspect] found of one module and token. Its JSON form is that of
// `signetd doctor --json`: members are added, and never renamed or removed. It holds no
// PIN.
type Report struct {
	// Backend is the name that the configuration gives the backend. The caller of Inspect
	// fills it in.
	Backend string `json:"backend,omitempty"`
	// Target is the token that the config names, in the words of an error.
	Target string       `json:"target,omitempty"`
	Module ModuleReport `json:"module"`
	// Slots are those that say that a token is present.
	Slots []SlotReport `json:"slots"`
	Login LoginReport  `json:"login"`
	Keys  []KeyReport  `json:"keys"`
	// Findings is the verdict in parts. There is at least one.
	Findings []Finding `json:"findings"`
}

// A ModuleReport has what a module says of itself.
type ModuleReport struct {
	Path         string `json:"path"`
	Loaded       bool   `json:"loaded"`
	Description  string `json:"description,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Version      string `json:"version,omitempty"`
	Cryptoki     string `json:"cryptoki,omitempty"` // version of the standard
}

// A SlotReport is one slot.
type SlotReport struct {
	ID          uint         `json:"id"`
	Description string       `json:"description,omitempty"`
	Error       string       `json:"error,omitempty"` // why the slot does not answer
	Token       *TokenReport `json:"token,omitempty"`
}

// A TokenReport is a token that is present.
type TokenReport struct {
	Label        string         `json:"label"`
	Serial       string         `json:"serial"`
	Manufacturer string         `json:"manufacturer"`
	Model        string         `json:"model"`
	Hardware     string         `json:"hardware"`
	Firmware     string         `json:"firmware"`
	Initialized  bool           `json:"initialized"`
	Chosen       bool           `json:"chosen"` // it is the one that the config names
	Sessions     SessionsReport `json:"sessions"`
	PIN          PINReport      `json:"pin"`
	// Mechanisms are names such as CKM_ECDSA, or numbers such as 0x80000001. It is absent
	// for tokens that are not initialised.
	Mechanisms []string `json:"mechanisms,omitempty"`
}

// A SessionsReport says how many sessions a token has. A null is a number that the token
// does not tell.
type SessionsReport struct {
	Max        *uint `json:"max"` // 0: no limit
	Open       *uint `json:"open"`
	Configured int   `json:"configured,omitempty"` // that signetd would use, besides one to stay logged in
}

// A PINReport is what the token's flags say about the user PIN, before the login.
type PINReport struct {
	Initialized bool `json:"initialized"`
	MinLength   uint `json:"min_length"`
	MaxLength   uint `json:"max_length"`
	CountLow    bool `json:"count_low"` // a wrong one was tried since the last login
	FinalTry    bool `json:"final_try"` // one more wrong one locks it
	Locked      bool `json:"locked"`
	ToBeChanged bool `json:"to_be_changed"`
}

// A LoginReport says how the login ended. There is one attempt at most.
type LoginReport struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"` // absent without an attempt
}

// A KeyRef names a key to look at.
type KeyRef struct {
	Name string       // in the report
	Ref  string       // its pkcs11: URI
	Algs []signer.Alg // that it must do. Optional: all that it can do
}

// A KeyReport is one private key.
type KeyReport struct {
	Name  string `json:"name,omitempty"`
	Ref   string `json:"ref"`
	Found bool   `json:"found"`
	Type  string `json:"type,omitempty"` // such as RSA-2048 or EC P-256
	Error string `json:"error,omitempty"`
	// Attributes are the CK_BBOOLs that the token tells, by name.
	Attributes map[string]bool `json:"attributes,omitempty"`
	// AllowedMechanisms is CKA_ALLOWED_MECHANISMS; absent if nothing is ruled out.
	AllowedMechanisms []string    `json:"allowed_mechanisms,omitempty"`
	Algs              []AlgReport `json:"algs,omitempty"`
}

// An AlgReport is an algorithm that a key can serve.
type AlgReport struct {
	Alg     signer.Alg `json:"alg"`
	Way     string     `json:"way"`             // how the token and signetd do it
	Proven  bool       `json:"proven"`          // it was run once, and the result was right
	Error   string     `json:"error,omitempty"` // of that run
	Latency []Latency  `json:"latency,omitempty"`
}

// A Latency is the time that an operation took while InFlight of them ran at once. It
// includes the wait for a session when there are fewer sessions than operations.
type Latency struct {
	InFlight int           `json:"in_flight"`
	Samples  int           `json:"samples"`
	Median   time.Duration `json:"median_ns"`
	P99      time.Duration `json:"p99_ns"`
}

// A Severity says how bad a finding is.
type Severity string

// The severities, from good to bad.
const (
	OK   Severity = "ok"
	Warn Severity = "warn" // it works, and should be looked at
	Fail Severity = "fail" // it does not work, or a key is not safe
)

// Worst returns the worse of s and t.
func (s Severity) Worst(t Severity) Severity {
	order := []Severity{OK, Warn, Fail}
	return order[max(slices.Index(order, s), slices.Index(order, t))]
}

// A Finding is one thing that is right or wrong.
type Finding struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`          // for programs, such as key-extractable
	Subject  string   `json:"subject"`       // such as key "oidc"
	Problem  string   `json:"problem"`       // what is wrong, or that nothing is
	Fix      string   `json:"fix,omitempty"` // what to do
}

// Verdict returns the worst severity of the findings.
func (r Report) Verdict() Severity {
	worst := OK
	for _, f := range r.Findings {
		worst = f.Severity.Worst(worst)
	}
	return worst
}

// add adds a finding; see [Finding] for the arguments.
func (r *Report) add(s Severity, code, subject, problem, fix string) {
	r.Findings = append(r.Findings, Finding{s, code, subject, problem, fix})
}
