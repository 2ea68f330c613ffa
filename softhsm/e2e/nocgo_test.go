//go:build !cgo

package e2e

// playFlags needs a PKCS#11 binding, which needs cgo, as all tokens do.
func playFlags(_, _ string) int { return 2 }
