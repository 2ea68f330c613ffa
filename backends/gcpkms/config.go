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

// A Config says how to reach Google Cloud KMS, and as whom. The zero value is
// Google's own endpoint with the credentials of the environment.
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
	// AttemptTimeout is how long one attempt of a call may take: a duration such as
	// "2s". Optional: cloud.DefaultAttemptTimeout.
	AttemptTimeout string `yaml:"attempt_timeout"`
	// Attempts is how often a call is tried, 1 to 10. Optional: cloud.DefaultAttempts.
	Attempts int `yaml:"attempts"`
	// Rate is how many cryptographic calls a second may go out, the retries among them.
	// What is above it is refused with ErrOverloaded. Optional: no limit but Google's.
	Rate int `yaml:"rate"`
}

func (c Config) check() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: gcpkms: "+format, append([]any{signer.ErrInvalid}, args...)...)
	}
	if c.Endpoint != "" {
		host, port, err := net.SplitHostPort(c.Endpoint)
		if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || host == "" {
			return invalid("endpoint %q is no host and port, such as cloudkms.googleapis.com:443", c.Endpoint)
		}
	}
	switch {
	case c.Plaintext && !c.loopback():
		return invalid("plaintext needs an endpoint on a loopback address, such as 127.0.0.1:9000")
	case c.Plaintext && c.CredentialsFile != "":
		return invalid("plaintext sends no credentials: leave out credentials_file")
	case c.AttemptTimeout != "" && c.attemptTimeout() < minAttemptTimeout:
		return invalid("attempt_timeout is not a duration of %v or more, such as 2s", minAttemptTimeout)
	case c.Attempts < 0 || c.Attempts > maxAttempts:
		return invalid("attempts is %d, not 1 to %d", c.Attempts, maxAttempts)
	case c.Rate < 0:
		return invalid("rate is %d", c.Rate)
	}
	return nil
}

// loopback reports whether the endpoint is an address of this host, not a name.
func (c Config) loopback() bool {
	host, _, err := net.SplitHostPort(c.Endpoint)
	return err == nil && net.ParseIP(host).IsLoopback()
}

// attemptTimeout returns AttemptTimeout as a duration, or 0 if it is none.
func (c Config) attemptTimeout() time.Duration {
	d, err := time.ParseDuration(c.AttemptTimeout)
	if err != nil {
		return 0
	}
	return d
}
