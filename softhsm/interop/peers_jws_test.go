//go:build cgo

package interop_test

import (
	"fmt"
	"testing"

	"signetd/daemon/api"
)

// Every signature algorithm goes in three directions: the peer signs and the daemon
// verifies; the daemon signs and the peer verifies; the peer signs the payload again, and
// the daemon verifies that.
func TestPeersJWS(t *testing.T) {
	eachPeer(t, signers(t), func(t *testing.T, d *daemon, p peer, tools []tool) [][]string {
		theirs := p.do(t, signJobs(tools, func(int) string { return envelope }))
		read := p.do(t, verifyJobs(t, d, tools))
		again := p.do(t, signJobs(tools, func(i int) string { return read[i].Output }))
		var rows [][]string
		for i, x := range tools {
			row := []string{x.kid}
			for direction, err := range []error{verifies(t, d, x, theirs[i]), same(read[i]), verifies(t, d, x, again[i])} {
				cell := "yes"
				if err != nil {
					t.Errorf("%s, direction %d: %v", x.kid, direction+1, err)
					cell = "NO"
				}
				row = append(row, cell)
			}
			rows = append(rows, append(row, ""))
		}
		return rows
	})
}

// signJobs returns jobs in which the peer signs with each key.
func signJobs(tools []tool, input func(i int) string) (jobs []job) {
	for i, x := range tools {
		jobs = append(jobs, job{Op: "sign", Alg: x.alg, JWK: x.whole(), Input: input(i)})
	}
	return jobs
}

// verifyJobs signs with the daemon, and returns jobs in which the peer verifies.
func verifyJobs(t testing.TB, d *daemon, tools []tool) (jobs []job) {
	t.Helper()
	for _, x := range tools {
		a, err := ask[api.SignJWSResponse](t, d, api.SignJWS.Path, api.SignJWSRequest{Key: x.name, Payload: []byte(envelope)})
		if err != nil {
			t.Errorf("%s: the daemon does not sign: %v", x.kid, err)
		}
		jobs = append(jobs, job{Op: "verify", Alg: x.alg, JWK: x.public(), Input: a.JWS})
	}
	return jobs
}

// verifies verifies with the daemon what the peer signed.
func verifies(t testing.TB, d *daemon, x tool, signed result) error {
	t.Helper()
	if signed.Error != "" {
		return fmt.Errorf("they do not sign: %s", signed.Error)
	}
	got, err := d.verify(t, x.key, signed.Output, nil)
	if err == nil && got != envelope {
		err = fmt.Errorf("the payload is %q", got)
	}
	return err
}
