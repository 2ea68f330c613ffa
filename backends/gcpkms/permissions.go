//go:build !nogcp

package gcpkms

import (
	"context"
	"fmt"
	"slices"

	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/grpc/codes"

	"signetd/signer"
)

// The permissions on a CryptoKey that matter here. A daemon needs one or two of the
// first three. [key.Describe] shows if the credentials have one of the others, which
// change keys.
const (
	permissionSign    = "cloudkms.cryptoKeyVersions.useToSign"
	permissionDecrypt = "cloudkms.cryptoKeyVersions.useToDecrypt"
	permissionEncrypt = "cloudkms.cryptoKeyVersions.useToEncrypt"
	permissionDestroy = "cloudkms.cryptoKeyVersions.destroy"
	permissionUpdate  = "cloudkms.cryptoKeyVersions.update"
	permissionPolicy  = "cloudkms.cryptoKeys.setIamPolicy"
)

// checkPermissions asks what the credentials may do with the key, and returns
// ErrUnavailable if they may not use it. Where Google does not say, the first use of
// the key will show it.
func (k *key) checkPermissions(ctx context.Context) error {
	need, role := []string{permissionSign}, "roles/cloudkms.signer"
	switch k.row.use { //nolint:exhaustive // the others sign
	case useDecrypt:
		need, role = []string{permissionDecrypt}, "roles/cloudkms.cryptoKeyDecrypter"
	case useBlob:
		need, role = []string{permissionEncrypt, permissionDecrypt}, "roles/cloudkms.cryptoKeyEncrypterDecrypter"
	}

	ask := slices.Concat(need, []string{permissionDestroy, permissionUpdate, permissionPolicy})
	var has []string
	err := k.backend.call(ctx, classControl, func(ctx context.Context) error {
		resp, err := k.backend.client.TestIamPermissions(ctx, &iampb.TestIamPermissionsRequest{Resource: k.ref.key, Permissions: ask})
		has = resp.GetPermissions()
		return err
	})
	if codeOf(err) != codes.OK {
		return nil // an endpoint that does not know the call, or a proxy that does not let it through
	}
	if err != nil {
		return err
	}

	for _, p := range need {
		if !slices.Contains(has, p) {
			return fmt.Errorf("%w: %s: the credentials lack %s on the CryptoKey: grant %s", signer.ErrUnavailable, service, p, role)
		}
	}
	k.may = has
	return nil
}
