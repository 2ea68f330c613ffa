//go:build !nogcp

package gcpkms

import (
	"errors"
	"fmt"
	"hash/crc32"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"signetd/backends/cloud"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, castagnoli)))
}

// intact returns an error unless an answer has the CRC32C of data. Google sends it
// always: an answer without it was cut on its way.
func intact(what string, data []byte, crc *wrapperspb.Int64Value) error {
	switch {
	case crc == nil:
		return cloud.Retry(fmt.Errorf("the answer has no CRC32C of the %s: withheld", what))
	case crc.GetValue() != checksum(data).GetValue():
		return cloud.Retry(fmt.Errorf("the CRC32C of the %s is wrong: withheld", what))
	}
	return nil
}

// errUnverified means that Google did not see the CRC32C that was sent, or what it
// belongs to.
var errUnverified = errors.New("the answer does not say that what was sent arrived intact: withheld")

// same returns an error unless an answer is of the version that was asked. Some
// answers have no name: want and got are empty then.
func (k *key) same(got, want string, level kmspb.ProtectionLevel) error {
	switch {
	case got != want:
		return cloud.Retry(errors.New("the answer names another key version: withheld"))
	case level != k.level:
		return cloud.Retry(fmt.Errorf("the answer is from protection level %v, the key was opened at %v: withheld", level, k.level))
	}
	return nil
}
