// Package tokens starts real software tokens for tests. Each is new, lives in a directory
// of the test's own, and is stopped when the test ends.
//
//	token := tokens.NewTPM(t)
//	ref := token.Generate(t, "oidc", provision.ECP256, signer.UseSig)
//	backend, err := pkcs11.Open(t.Context(), token.Config())
//
// They differ as real HSMs do: in mechanisms, answers, limits, and in what a wrong PIN
// does. Each token has a file of its own, and [All] lists them.
//
// A test is skipped when what its token needs is not installed, or fails if REQUIRE_TOKENS
// is 1; "deploy/packaging/install-deps.sh tokens" installs everything on Debian. A token
// sets environment variables of this process, and a PKCS#11 module reads them when it is
// initialised: use one token of a kind at a time. The tokens exist on Linux only.
package tokens
