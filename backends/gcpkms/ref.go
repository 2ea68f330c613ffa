package gcpkms

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"signetd/signer"
)

// A ref is the name of a CryptoKey, or of one version of it.
type ref struct {
	key     string // projects/P/locations/L/keyRings/R/cryptoKeys/K
	version int    // 0 for the CryptoKey itself
}

var refForm = regexp.MustCompile(`^(projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+)(?:/cryptoKeyVersions/([1-9][0-9]{0,8}))?$`)

// maxRef is far longer than any name that Google allows, in bytes.
const maxRef = 1024

// parseRef reads projects/.../cryptoKeys/K and
// projects/.../cryptoKeys/K/cryptoKeyVersions/N, each with or without gcpkms:/// or
// gcpkms:// before it.
func parseRef(s string) (ref, error) {
	name, ok := strings.CutPrefix(s, "gcpkms://")
	if ok {
		name = strings.TrimPrefix(name, "/")
	}

	m := refForm.FindStringSubmatch(name)
	if m == nil || len(name) > maxRef {
		return ref{}, fmt.Errorf("%w: gcpkms: the ref is not of the form projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N", signer.ErrInvalid)
	}

	r := ref{key: m[1]}
	if m[2] != "" {
		var err error
		if r.version, err = strconv.Atoi(m[2]); err != nil {
			return ref{}, fmt.Errorf("%w: gcpkms: the version in the ref is not a number", signer.ErrInvalid)
		}
	}
	return r, nil
}

// String returns the resource name, without a scheme.
func (r ref) String() string {
	if r.version == 0 {
		return r.key
	}
	return r.key + "/cryptoKeyVersions/" + strconv.Itoa(r.version)
}
