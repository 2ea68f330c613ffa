// Package client talks to signetd over its Unix socket: it signs and opens JOSE
// objects with keys that the process never holds.
//
// For most uses make a [Client] with [New] and call [Client.SignJWT] or
// [Client.DecryptJWE]: the daemon then writes the header, applies the key's
// policy, and no key or CEK crosses the socket. A library that wants a key
// itself takes the result of [Client.Signer] as a [crypto.Signer], that of
// [Client.Decrypter] as a [crypto.Decrypter], or their Opaque methods' as the
// opaque keys of go-jose. These need the grants sign-digest and unwrap.
//
// Errors are those of package signer, on this side of the socket as on the other:
// errors.Is(err, signer.ErrDenied). An [Error] is what the daemon answered. If
// nobody answers, the error is signer.ErrUnavailable and says what to do.
//
// The package links neither cgo nor a cloud SDK nor the daemon.
package client
