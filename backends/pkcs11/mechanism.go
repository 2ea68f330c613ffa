package pkcs11

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// mechanismList has a line for each mechanism that PKCS#11 names: number, space,
// name.
//
//go:embed mechanisms.txt
var mechanismList string

var mechanismNames = sync.OnceValue(func() map[uint64]string {
	names := make(map[uint64]string)
	for line := range strings.Lines(mechanismList) {
		number, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(number, 0, 64)
		if err != nil {
			panic(err) // a mistake in mechanisms.txt
		}
		names[n] = name
	}
	return names
})

// mechanismName is CKM_ and so on, or the number of a vendor's own mechanism.
func mechanismName(number uint64) string {
	if name, ok := mechanismNames()[number]; ok {
		return name
	}
	return fmt.Sprintf("%#x", number)
}
