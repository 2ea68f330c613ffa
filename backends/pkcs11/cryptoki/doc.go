// Package cryptoki calls one PKCS#11 module: it loads the library, initialises it, logs
// in to its tokens, opens sessions, and says what the answers of the module ask for.
// Cryptoki is the name that the PKCS#11 standard gives its own interface.
//
// [Acquire] returns a [Module], which is shared by the whole process. [Module.Login] logs
// in to a token and [Login.OpenSession] opens a [Session]. The methods of a Session that
// each request needs ([Session.Sign], [Session.Decrypt] and those beside them) are one
// call of cgo each, allocate nothing, and leave nothing in the caller's buffer when they
// fail. All that is rare goes through github.com/miekg/pkcs11.
//
// Every call into a module must be made between [Module.Enter] and [Module.Leave]. A call
// cannot be interrupted, and a session must not be used by two threads at once; package
// pool sees to both.
//
// Errors wrap those of package signer. [ClassOf] says what an error asks the caller to do.
//
// The package needs cgo. Without it only [CheckModule] is left.
package cryptoki
