// Package provision prepares PKCS#11 tokens and makes keys in them: what
// "signetd hsm init" and "signetd hsm keygen" do.
//
// It initialises the module by itself, and for key generation through crypto11. A module
// can be initialised once per process, so use this package in a process of its own, and
// never beside an open backend of package pkcs11.
package provision
