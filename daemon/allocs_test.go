package daemon

import (
	"testing"

	"signetd/daemon/api"
)

// TestSignJWTAllocs holds what the daemon itself allocates for a token, from the request
// to the answer and its record. With the deadline, the admission and the log's write it is
// 23, of which 13 are theirs.
func TestSignJWTAllocs(t *testing.T) {
	s := benchService(t, newStub(t), true)
	body := &api.SignJWTRequest{Key: "oidc", Claims: usualClaims}
	got := testing.AllocsPerRun(200, func() {
		signOnce(t, s, body)
	})
	most := 25.0
	if raceEnabled {
		most = 40 // it has pools drop what they hold now and then
	}
	if got > most {
		t.Errorf("a token allocates %v times, want %v or less", got, most)
	}
}
