package gcpkmstest

import (
	"context"
	"slices"

	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// methodPermissions are the permissions that calls need. TestIamPermissions needs none.
var methodPermissions = map[string]string{
	"GetPublicKey":          "cloudkms.cryptoKeyVersions.viewPublicKey",
	"GetCryptoKey":          "cloudkms.cryptoKeys.get",
	"GetCryptoKeyVersion":   "cloudkms.cryptoKeyVersions.get",
	"ListCryptoKeyVersions": "cloudkms.cryptoKeyVersions.list",
	"AsymmetricSign":        "cloudkms.cryptoKeyVersions.useToSign",
	"AsymmetricDecrypt":     "cloudkms.cryptoKeyVersions.useToDecrypt",
	"MacSign":               "cloudkms.cryptoKeyVersions.useToSign",
	"MacVerify":             "cloudkms.cryptoKeyVersions.useToVerify",
	"Encrypt":               "cloudkms.cryptoKeyVersions.useToEncrypt",
	"Decrypt":               "cloudkms.cryptoKeyVersions.useToDecrypt",
}

func (s *Server) permittedLocked(method string) bool {
	need, ok := methodPermissions[method]
	return !ok || len(s.permissions) == 0 || slices.Contains(s.permissions, need)
}

// An iam answers the calls about permissions.
type iam struct {
	iampb.UnimplementedIAMPolicyServer
	server *Server
}

// TestIamPermissions answers which of the permissions the caller has: none on a key that
// does not exist.
func (i *iam) TestIamPermissions(_ context.Context, req *iampb.TestIamPermissionsRequest) (*iampb.TestIamPermissionsResponse, error) {
	i.server.mu.Lock()
	defer i.server.mu.Unlock()

	if !keyName.MatchString(req.GetResource()) {
		return nil, status.Error(codes.InvalidArgument, "The resource is not a CryptoKey.")
	}
	if _, ok := i.server.keys[req.GetResource()]; !ok {
		return &iampb.TestIamPermissionsResponse{}, nil
	}

	var has []string
	for _, p := range req.GetPermissions() {
		if len(i.server.permissions) == 0 || slices.Contains(i.server.permissions, p) {
			has = append(has, p)
		}
	}
	return &iampb.TestIamPermissionsResponse{Permissions: has}, nil
}
