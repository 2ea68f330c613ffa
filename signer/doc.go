// Package signer is the vocabulary of signetd: keys that stay in their hardware, and what
// JOSE makes with them.
//
// A [Backend] opens keys; a [Key] that signs is a [Signer], one that unwraps is a
// [Decrypter]. A [Version] is one key pair or secret with its kid, in one place or several,
// and a [Ring] holds all versions under the names that operators gave them.
// [Version.SignJWS] and [Version.DecryptJWE] do the JOSE work once for all backends: a
// backend sees digests and RSA ciphertexts, never a header or a claim.
//
// For most uses open a key with a backend, put it in a Ring and call
// [Ring.Active]. Package signetd/daemon/client gives the same interfaces over
// the daemon's socket.
//
// The package imports the standard library, go-jose and decred's secp256k1, and nothing
// else, so that an issuer who imports it inherits neither cgo nor a cloud SDK. What needs
// more is handed in: see packages p256 and mldsa below this one.
package signer
