//go:build !nogcp

package gcpkms

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"signetd/signer"
)

// clientOptions returns the endpoint and the credentials for Google's client.
func clientOptions(c Config) ([]option.ClientOption, error) {
	options := []option.ClientOption{option.WithTelemetryDisabled()}
	if c.Endpoint != "" {
		options = append(options, option.WithEndpoint(c.Endpoint))
	}
	if c.Plaintext {
		return append(options, option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))), nil
	}

	if c.CredentialsFile != "" {
		credentials, err := readCredentials(c.CredentialsFile)
		if err != nil {
			return nil, err
		}
		options = append(options, credentials)
	}
	return options, nil
}

// maxCredentials is far longer than any file of credentials, in bytes.
const maxCredentials = 1 << 20

// readCredentials reads a file of credentials, which names their type itself. The
// errors hold nothing of the file.
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
	var file struct {
		Type option.CredentialsType `json:"type"`
	}
	if json.Unmarshal(data, &file) != nil {
		return refuse("%s is not JSON", path)
	}

	switch file.Type { //nolint:exhaustive // the others are refused
	case option.ServiceAccount, option.AuthorizedUser, option.ExternalAccount, option.ImpersonatedServiceAccount:
		return option.WithAuthCredentialsJSON(file.Type, data), nil
	default:
		return refuse("%s has credentials of a type that is not supported", path)
	}
}
