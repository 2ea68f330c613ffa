// Package interop has no code of its own. Its tests drive the real signetd over its
// socket with keys and messages that somebody else made: the examples of the RFCs
// (testdata/rfc.json), Wycheproof's vectors, and go-jose, panva's jose and latchset's
// jose at the other end.
package interop
