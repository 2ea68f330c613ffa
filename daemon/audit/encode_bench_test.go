package audit

import (
	"encoding/json"
	"testing"
	"time"
)

// BenchmarkEncode appends a record of usual size to a batch: by the encoder of this
// package, and by encoding/json.
func BenchmarkEncode(b *testing.B) {
	r := &Record{
		Time: time.Unix(1_800_000_000, 123_456_789).UTC(), Request: "0123456789abcdef", Peer: Peer{UID: 1000, GID: 1000, PID: 12345}, Op: "sign-jwt",
		Key: "oidc", KID: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", Alg: "ES256", Outcome: "ok", JTI: "0123456789abcdefghijkl", Exp: 1_800_000_900,
		Digest: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
	}
	byLibrary := func(batch []byte) []byte {
		text, err := json.Marshal(r)
		if err != nil {
			b.Fatal(err)
		}
		return append(batch, text...)
	}

	for _, v := range []struct {
		name   string
		append func([]byte) []byte
	}{{"own", r.appendJSON}, {"encoding-json", byLibrary}} {
		b.Run(v.name, func(b *testing.B) {
			batch := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				batch = v.append(batch[:0])
			}
		})
	}
}
