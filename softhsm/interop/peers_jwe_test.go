//go:build cgo

package interop_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"

	"signetd/daemon/api"
	"signetd/signer"
)

// eachPeer runs f for each other implementation over each backend.
func eachPeer(t *testing.T, tools []tool, f func(t *testing.T, d *daemon, p peer, tools []tool) [][]string) {
	slices.SortFunc(tools, func(a, b tool) int { return cmp.Compare(a.name, b.name) })
	for backend, make := range makers {
		t.Run(backend, func(t *testing.T) {
			var keys []key
			for _, x := range tools {
				keys = append(keys, x.key)
			}
			d := make(t, keys...)
			for _, p := range peers {
				t.Run(p.name, func(t *testing.T) {
					if _, err := exec.LookPath(cmp.Or(p.needs, "true")); err != nil {
						if os.Getenv("REQUIRE_TOOLS") == "1" {
							t.Fatal(err)
						}
						t.Skipf("%v: set REQUIRE_TOOLS=1 to fail instead", err)
					}

					var known []tool
					rows := [][]string{}
					for _, x := range tools {
						if slices.Contains(p.lacks, x.alg) {
							if r := p.do(t, tryJobs(x)); r[0].Error == "" {
								t.Errorf("%s does know %s: take it off the list", p.name, x.alg)
							}
							rows = append(rows, []string{x.kid, "-", "-", "-", p.name + " does not know it"})
							continue
						}
						known = append(known, x)
					}

					rows = append(f(t, d, p, known), rows...)
					table(t, p.name+" and signetd over "+backend, append([][]string{{"alg", "theirs to ours", "ours to theirs", "round trip", ""}}, rows...))
				})
			}
		})
	}
}

// tryJobs returns a job that shows whether the peer knows an alg.
func tryJobs(x tool) []job {
	if x.alg.Use() == signer.UseSig {
		return signJobs([]tool{x}, func(int) string { return envelope })
	}
	return sealJobs([]tool{{x.key, x.alg, x.encs[:1]}}, func(int) string { return envelope })
}

const envelope = `{"sub":"alice","note":"grüße"}`

// Every alg with every enc goes in three directions: the peer seals and the daemon opens;
// the daemon seals and the peer opens; the peer seals again what it opened, and the daemon
// opens that.
func TestPeersJWE(t *testing.T) {
	eachPeer(t, sealers(t), func(t *testing.T, d *daemon, p peer, tools []tool) [][]string {
		theirs := p.do(t, sealJobs(tools, func(int) string { return envelope }))
		ours := openJobs(t, d, tools)
		opened := p.do(t, ours)
		again := p.do(t, sealJobs(tools, func(i int) string { return opened[i].Output }))
		var rows [][]string
		i := 0
		for _, x := range tools {
			var good [3]int
			for _, enc := range x.encs {
				for direction, err := range []error{
					opens(t, d, theirs[i]), same(opened[i]), opens(t, d, again[i]),
				} {
					if err != nil {
						t.Errorf("%s with %s, direction %d: %v", x.name, enc, direction+1, err)
						continue
					}
					good[direction]++
				}
				i++
			}

			row := []string{x.kid}
			for _, n := range good {
				row = append(row, strconv.Itoa(n)+" of "+strconv.Itoa(len(x.encs)))
			}
			rows = append(rows, append(row, ""))
		}

		return rows
	})
}

// sealJobs returns jobs in which the peer seals for each tool with each of its encs.
func sealJobs(tools []tool, input func(i int) string) (jobs []job) {
	for _, x := range tools {
		for _, enc := range x.encs {
			jobs = append(jobs, job{Op: "encrypt", Alg: x.alg, Enc: enc, JWK: x.public(), Input: input(len(jobs))})
		}
	}
	return jobs
}

// openJobs seals with the daemon, and returns jobs in which the peer opens.
func openJobs(t testing.TB, d *daemon, tools []tool) (jobs []job) {
	t.Helper()
	for _, x := range tools {
		for _, enc := range x.encs {
			a, err := ask[api.EncryptJWEResponse](t, d, api.EncryptJWE.Path, api.EncryptJWERequest{Key: x.name, Plaintext: []byte(envelope), Enc: enc})
			if err != nil {
				t.Errorf("%s with %s: the daemon does not seal: %v", x.name, enc, err)
			}
			jobs = append(jobs, job{Op: "decrypt", Alg: x.alg, Enc: enc, JWK: x.whole(), Input: a.JWE})
		}
	}
	return jobs
}

// opens opens with the daemon what the peer sealed.
func opens(t testing.TB, d *daemon, sealed result) error {
	t.Helper()
	if sealed.Error != "" {
		return fmt.Errorf("they do not seal: %s", sealed.Error)
	}
	got, err := d.open(t, sealed.Output)
	if err == nil && got != envelope {
		err = fmt.Errorf("opened as %q", got)
	}
	return err
}

// same checks what the peer opened.
func same(r result) error {
	switch {
	case r.Error != "":
		return fmt.Errorf("they do not read it: %s", r.Error)
	case r.Output != envelope:
		return fmt.Errorf("they read %q", r.Output)
	}
	return nil
}

// The daemon opens RSA1_5, which old senders still use, if a key lists it. It never
// encrypts with it.
func TestPeersRSA15(t *testing.T) {
	x := tool{newKey("old", rsaJWK(t), signer.RSA15), signer.RSA15, allEncs}
	d := serve(t, x.key)
	for _, p := range peers {
		if _, err := exec.LookPath(cmp.Or(p.needs, "true")); err != nil || slices.Contains(p.lacks, x.alg) {
			continue // TestPeersJWE reports the missing peer
		}
		for i, r := range p.do(t, sealJobs([]tool{x}, func(int) string { return envelope })) {
			if err := opens(t, d, r); err != nil {
				t.Errorf("%s with %s: %v", p.name, allEncs[i], err)
			}
		}
	}

	if _, err := ask[api.EncryptJWEResponse](t, d, api.EncryptJWE.Path, api.EncryptJWERequest{Key: "old", Plaintext: []byte("x")}); err == nil {
		t.Error("the daemon seals with RSA1_5")
	}
}
