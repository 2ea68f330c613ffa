package gcpkms

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"signetd/signer"
)

const (
	minAttemptTimeout = 10 * time.Millisecond
	maxAttempts       = 10
)

// A Config says how to reach Google Cloud KMS, and with which credentials. The zero
// value is Google's own endpoint with the credentials of the environment.
type Config struct {
	// Endpoint is the host and port of the service, for a private endpoint or an
	// emulator. Optional: cloudkms.googleapis.com:443.
	Endpoint string `yaml:"endpoint"`
	// Plaintext leaves out TLS and credentials, for an emulator: Endpoint must be a
	// loopback address.
	Plaintext bool `yaml:"plaintext"`
	// CredentialsFile is the path of a JSON file with credentials: a service account's
	// key, or a workload identity configuration. Users other than its owner and group
	// may not read it. Optional: Application Default Credentials, which on Google's
	// machines are the attached service account.
	CredentialsFile string `yaml:"credentials_file"`
	// Attempts is how often a call is made at most, 1 to 10. Optional: 3.
	Attempts int `yaml:"attempts"`
	// AttemptTimeout is how long one attempt may take, 10ms or more: a duration such as
	// "2s". Optional: 1.5s.
	AttemptTimeout string `yaml:"attempt_timeout"`
	// Rate is how many cryptographic calls a second this backend makes at most, retries
	// included. More are ErrOverloaded. Optional: no limit but Google's quota.
	Rate int `yaml:"rate"`
}

func (c Config) check() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: gcpkms: "+format, append([]any{signer.ErrInvalid}, args...)...)
	}

	loopback := false
	if c.Endpoint != "" {
		host, port, err := net.SplitHostPort(c.Endpoint)
		if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || host == "" {
			return invalid("endpoint %q is not a host and port, such as cloudkms.googleapis.com:443", c.Endpoint)
		}
		// A name is not a loopback address, since it may resolve to another host.
		loopback = net.ParseIP(host).IsLoopback()
	}

	switch {
	case c.Plaintext && !loopback:
		return invalid("plaintext needs an endpoint on a loopback address, such as 127.0.0.1:9000")
	case c.Plaintext && c.CredentialsFile != "":
		return invalid("plaintext sends no credentials: leave out credentials_file")
	case c.AttemptTimeout != "" && c.attemptTimeout() < minAttemptTimeout:
		return invalid("attempt_timeout is not a duration of %v or more, such as 2s", minAttemptTimeout)
	case c.Attempts < 0 || c.Attempts > maxAttempts:
		return invalid("attempts is %d, not 1 to %d", c.Attempts, maxAttempts)
	case c.Rate < 0:
		return invalid("rate is %d, not a number of calls a second", c.Rate)
	}
	return nil
}

// attemptTimeout returns AttemptTimeout as a duration, or 0 if it is empty or is not one.
func (c Config) attemptTimeout() time.Duration {
	d, _ := time.ParseDuration(c.AttemptTimeout)
	return d
}
