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

// checksum returns the CRC32C of data in the form of the API.
func checksum(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, castagnoli)))
}

// checkCRC returns an error unless crc is the CRC32C of data, which is what of an
// answer. Google always sends it: an answer without it has lost something on its way.
func checkCRC(what string, data []byte, crc *wrapperspb.Int64Value) error {
	switch {
	case crc == nil:
		return cloud.Retry(fmt.Errorf("the answer has no CRC32C of the %s: withheld", what))
	case crc.GetValue() != checksum(data).GetValue():
		return cloud.Retry(fmt.Errorf("the CRC32C of the %s is wrong: withheld", what))
	}
	return nil
}

// checkAnswer returns an error unless an answer names what was asked for, comes from
// the protection level at which the key was opened, and says that Google has verified
// the CRC32C of the request. Some answers have no name: got and want are empty then.
func (k *key) checkAnswer(got, want string, level kmspb.ProtectionLevel, verified bool) error {
	switch {
	case got != want:
		return cloud.Retry(errors.New("the answer names another key version: withheld"))
	case level != k.level:
		return cloud.Retry(fmt.Errorf("the answer is from protection level %v, the key was opened at %v: withheld", level, k.level))
	case !verified:
		return cloud.Retry(errors.New("the answer does not say that the request arrived intact: withheld"))
	}
	return nil
}
