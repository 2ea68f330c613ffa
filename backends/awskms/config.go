package awskms

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"time"

	"signetd/signer"
)

// A Config says where the keys in AWS KMS are, and how to reach them. The SDK's default
// chain finds the credentials: environment, web identity, shared profile, container,
// instance.
type Config struct {
	// Region is where the keys are, such as eu-west-1. Optional: the region of the
	// environment or the profile.
	Region string `yaml:"region"`
	// Profile names a profile of the shared config and credentials files. Optional.
	Profile string `yaml:"profile"`
	// AssumeRole is a role to assume with those credentials. Optional.
	AssumeRole *AssumeRole `yaml:"assume_role"`
	// Endpoint is the URL of a VPC endpoint, or of a test's server: https, or http on
	// this host. Optional: the region's public endpoint.
	Endpoint string `yaml:"endpoint"`
	// FIPS is whether to use the region's FIPS endpoint. It excludes Endpoint.
	FIPS bool `yaml:"fips"`
	// Attempts is how often a call is made at most, 1 to 10. Optional: 3.
	Attempts int `yaml:"attempts"`
	// AttemptTimeout is how long one attempt may take, 10ms to 1m: a duration such as
	// "500ms". Optional: 1.5s.
	AttemptTimeout string `yaml:"attempt_timeout"`
	// Rates keep the backend below the account's quotas in the region. Optional.
	Rates Rates `yaml:"rates"`
}

// An AssumeRole is a role and how to ask for it (sts:AssumeRole).
type AssumeRole struct {
	// ARN names the role.
	ARN string `yaml:"arn"`
	// ExternalID is the ID that the role's owner demands, if so. Optional.
	ExternalID string `yaml:"external_id"`
	// SessionName is the name of the session in CloudTrail. Optional: signetd.
	SessionName string `yaml:"session_name"`
}

// Rates are how many calls a second this backend makes at most, by the classes for
// which AWS has quotas. All backends and hosts that use an account and region share its
// quotas.
type Rates struct {
	RSA       int `yaml:"rsa"`       // with RSA keys. Optional: 1000
	ECC       int `yaml:"ecc"`       // with keys on curves, DeriveSharedSecret too. Optional: 1000
	MLDSA     int `yaml:"ml_dsa"`    // with ML-DSA keys. Optional: 1000
	Symmetric int `yaml:"symmetric"` // with HMAC and symmetric keys. Optional: 10000
}

// The classes of calls. classControl has no rate: DescribeKey and GetPublicKey are
// called when a key is opened, and sometimes by Ping.
const (
	classRSA       = "rsa"
	classECC       = "ecc"
	classMLDSA     = "ml_dsa"
	classSymmetric = "symmetric"
	classControl   = "control"
)

// defaultRates are the lowest quotas that AWS gives an account in any region.
var defaultRates = map[string]int{classRSA: 1000, classECC: 1000, classMLDSA: 1000, classSymmetric: 10000}

func (c Config) rates() map[string]int {
	rates := maps.Clone(defaultRates)
	for class, rate := range map[string]int{classRSA: c.Rates.RSA, classECC: c.Rates.ECC, classMLDSA: c.Rates.MLDSA, classSymmetric: c.Rates.Symmetric} {
		if rate > 0 {
			rates[class] = rate
		}
	}
	return rates
}

const (
	maxAttempts       = 10
	minAttemptTimeout = 10 * time.Millisecond
	maxAttemptTimeout = time.Minute
	maxRate           = 1_000_000
)

var (
	regionForm  = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	roleForm    = regexp.MustCompile(`^arn:[a-z-]+:iam::[0-9]{12}:role/[\w+=,.@/-]+$`)
	sessionForm = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

func (c Config) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: awskms: %s", signer.ErrInvalid, fmt.Sprintf(format, args...))
	}

	switch {
	case c.Region != "" && !regionForm.MatchString(c.Region):
		return bad("region %.40q is not the name of a region, such as eu-west-1", c.Region)
	case c.FIPS && c.Endpoint != "":
		return bad("fips and endpoint exclude each other: AWS has its own endpoint for FIPS; leave one of them out")
	case c.Attempts < 0 || c.Attempts > maxAttempts:
		return bad("attempts is %d, not 1 to %d", c.Attempts, maxAttempts)
	case c.AttemptTimeout != "" && (c.attemptTimeout() < minAttemptTimeout || c.attemptTimeout() > maxAttemptTimeout):
		return bad("attempt_timeout is not a duration from %v to %v, such as 500ms", minAttemptTimeout, maxAttemptTimeout)
	}
	if slices.ContainsFunc([]int{c.Rates.RSA, c.Rates.ECC, c.Rates.MLDSA, c.Rates.Symmetric}, func(n int) bool { return n < 0 || n > maxRate }) {
		return bad("rates: each is a number of calls a second, up to %d", maxRate)
	}

	if r := c.AssumeRole; r != nil {
		switch {
		case !roleForm.MatchString(r.ARN):
			return bad("assume_role: arn is not the ARN of a role, such as arn:aws:iam::111122223333:role/NAME")
		case r.SessionName != "" && !sessionForm.MatchString(r.SessionName):
			return bad("assume_role: session_name is not 2 to 64 of letters, digits and _+=,.@-")
		}
	}

	if c.Endpoint == "" {
		return nil
	}
	return checkEndpoint(c.Endpoint)
}

// checkEndpoint refuses an endpoint whose traffic others on the network could read: it
// carries what AWS has decrypted.
func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%w: awskms: the endpoint is not a URL such as https://HOST", signer.ErrInvalid)
	}

	local := u.Hostname() == "localhost"
	if ip := net.ParseIP(u.Hostname()); ip != nil {
		local = ip.IsLoopback()
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return fmt.Errorf("%w: awskms: the endpoint is neither https nor http on this host", signer.ErrInvalid)
	}
	return nil
}

// attemptTimeout returns AttemptTimeout as a duration, or 0 if it is empty or is not one.
func (c Config) attemptTimeout() time.Duration {
	d, _ := time.ParseDuration(c.AttemptTimeout)
	return d
}
