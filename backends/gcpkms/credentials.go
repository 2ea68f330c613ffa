//go:build !nogcp

package gcpkms

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"google.golang.org/api/option"

	"signetd/signer"
)

// maxCredentials is far more than a file of credentials has.
const maxCredentials = 1 << 20

// readCredentials reads a file of credentials, which says itself of what type it is.
// Its errors hold nothing of the file.
func readCredentials(path string) (option.ClientOption, error) {
	refuse := func(format string, args ...any) (option.ClientOption, error) {
		return nil, fmt.Errorf("%w: gcpkms: credentials_file: "+format, append([]any{signer.ErrInvalid}, args...)...)
	}
	f, err := os.Open(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return refuse("%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return refuse("%w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o007 != 0 {
		return refuse("%s has mode %v: it must be a file that others cannot use (chmod o= FILE)", path, mode)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCredentials))
	if err != nil {
		return refuse("%w", err)
	}
	var kind struct {
		Type option.CredentialsType `json:"type"`
	}
	if json.Unmarshal(data, &kind) != nil {
		return refuse("%s is no JSON", path)
	}
	switch kind.Type { //nolint:exhaustive // the others are refused
	case option.ServiceAccount, option.AuthorizedUser, option.ExternalAccount, option.ImpersonatedServiceAccount:
		return option.WithAuthCredentialsJSON(kind.Type, data), nil
	default:
		return refuse("%s holds credentials of a type that is not supported", path)
	}
}
