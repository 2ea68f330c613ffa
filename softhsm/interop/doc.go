// Package interop has only tests. They drive the real signetd over its socket with keys
// and messages of others: the examples of the RFCs (testdata/rfc.json), Wycheproof's
// vectors, and the implementations go-jose, jose by panva (npm) and jose by latchset.
package interop
