package gcpkms

import "signetd/signer"

// Table returns what the versions of each of Google's algorithms do, of those that
// have a use here.
func Table() map[string][]signer.Alg {
	used := map[string][]signer.Alg{}
	for _, r := range rows {
		if r.use != useNone {
			used[r.algorithm] = r.algs
		}
	}
	return used
}

// Known returns all algorithms in the table, also those without a use.
func Known() (names []string) {
	for _, r := range rows {
		names = append(names, r.algorithm)
	}
	return names
}
