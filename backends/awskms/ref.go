package awskms

import (
	"fmt"
	"regexp"
	"strings"

	"signetd/signer"
)

// refScheme is an optional prefix of a ref.
const refScheme = "awskms:///"

var (
	arnForm   = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:(key/[A-Za-z0-9-]+|alias/[a-zA-Z0-9/_-]+)$`)
	aliasForm = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
)

// parseRef returns the id to ask AWS for, and whether it names the key itself rather
// than an alias. The region in an ARN must be the backend's.
func parseRef(ref, region string) (id string, isKey bool, err error) {
	id = strings.TrimPrefix(ref, refScheme)
	if aliasForm.MatchString(id) {
		return id, false, nil
	}

	parts := arnForm.FindStringSubmatch(id)
	if parts == nil || len(id) > 2048 {
		return "", false, fmt.Errorf("%w: the ref is neither the ARN of a key or alias (arn:aws:kms:REGION:ACCOUNT:key/ID) nor alias/NAME", signer.ErrInvalid)
	}
	if parts[1] != region {
		return "", false, fmt.Errorf("%w: the ref names a key in %s, and the backend is in %s: make a backend for each region", signer.ErrInvalid, parts[1], region)
	}
	return id, strings.HasPrefix(parts[2], "key/"), nil
}

// keyID returns the part of a key's ARN that is its own within the account. Errors
// show no more of the ARN, because peers see them and need not know the account.
func keyID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
