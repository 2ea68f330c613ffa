package signer

import (
	"fmt"
	"testing"
)

// BenchmarkProtectedHeader asks a version for the header of a JWT: a header that it keeps,
// and one that it writes each time, because it already keeps as many others as it may.
func BenchmarkProtectedHeader(b *testing.B) {
	for _, name := range []string{"remembered", "written"} {
		b.Run(name, func(b *testing.B) {
			v := &Version{kid: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"}
			if name == "written" {
				for i := range maxHeaders {
					if _, err := v.protected(ES256, Header{Typ: fmt.Sprint(i)}); err != nil {
						b.Fatal(err)
					}
				}
			}

			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.protected(ES256, Header{Typ: "JWT"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
