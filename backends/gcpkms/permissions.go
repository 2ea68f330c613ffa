//go:build !nogcp

package gcpkms

import (
	"context"
	"fmt"
	"slices"

	"cloud.google.com/go/iam/apiv1/iampb"

	"signetd/signer"
)

// The permissions on a CryptoKey that matter here. The last ones nobody needs who
// only uses keys.
const (
	permissionSign    = "cloudkms.cryptoKeyVersions.useToSign"
	permissionDecrypt = "cloudkms.cryptoKeyVersions.useToDecrypt"
	permissionEncrypt = "cloudkms.cryptoKeyVersions.useToEncrypt"
	permissionDestroy = "cloudkms.cryptoKeyVersions.destroy"
	permissionUpdate  = "cloudkms.cryptoKeyVersions.update"
	permissionPolicy  = "cloudkms.cryptoKeys.setIamPolicy"
)

// A need is the permissions that a use of a key takes, and the role that has them.
type need struct {
	permissions []string
	role        string
}

func (u use) needs() need {
	switch u { //nolint:exhaustive // the others sign
	case decrypt:
		return need{[]string{permissionDecrypt}, "roles/cloudkms.cryptoKeyDecrypter"}
	case encryptBlob:
		return need{[]string{permissionEncrypt, permissionDecrypt}, "roles/cloudkms.cryptoKeyEncrypterDecrypter"}
	default:
		return need{[]string{permissionSign}, "roles/cloudkms.signer"}
	}
}

// permitted asks what the credentials may do with the key, and refuses a key that
// they may not use. If Google does not say, the first use of the key will show it.
func (k *key) permitted(ctx context.Context) error {
	need := k.row.use.needs()
	ask := slices.Concat(need.permissions, []string{permissionDestroy, permissionUpdate, permissionPolicy})
	var has []string
	err := k.backend.do(ctx, classRead, func(ctx context.Context) error {
		resp, err := k.backend.client.TestIamPermissions(ctx, &iampb.TestIamPermissionsRequest{Resource: k.ref.key, Permissions: ask})
		has = resp.GetPermissions()
		return err
	})
	if codeOf(err) != 0 {
		return nil // an endpoint that does not know the call, or does not let it through
	}
	if err != nil {
		return err
	}
	for _, p := range need.permissions {
		if !slices.Contains(has, p) {
			return fmt.Errorf("%w: %s: the credentials lack %s on the CryptoKey: grant %s", signer.ErrUnavailable, service, p, need.role)
		}
	}
	k.may = has
	return nil
}
