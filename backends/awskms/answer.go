//go:build !noaws

package awskms

import (
	"errors"
	"fmt"

	"signetd/backends/cloud"
)

// checkKey returns an error unless an answer names the key that was asked for.
func checkKey(got *string, arn string) error {
	if got == nil {
		return cloud.Retry(errors.New("an answer that names no key"))
	}
	if *got != arn {
		return cloud.Fail(fmt.Errorf("the answer is another key's, %.100s: withheld", *got))
	}
	return nil
}

// checkAnswer returns an error unless an answer names the key and the algorithm that
// were asked for.
func checkAnswer[A ~string](key *string, arn string, alg, want A) error {
	if err := checkKey(key, arn); err != nil {
		return err
	}
	switch alg {
	case want:
		return nil
	case "":
		return cloud.Retry(errors.New("an answer that names no algorithm"))
	default:
		return cloud.Fail(fmt.Errorf("the answer is of algorithm %.64s, not %s: withheld", alg, want))
	}
}
