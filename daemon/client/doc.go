// Package client talks to signetd over its Unix socket: it signs and opens JOSE objects
// with keys that this process never holds.
//
// For most uses make a [Client] with [New] and call [Client.SignJWT] or
// [Client.DecryptJWE]. The daemon then writes the header and applies the policy of the
// key, and no key or CEK crosses the socket.
//
// For a library that wants a key itself, [Client.Signer] returns a [crypto.Signer] and
// [Client.Decrypter] a [crypto.Decrypter]; their methods Opaque return the opaque keys of
// go-jose. These need the grants sign-digest and unwrap.
//
// Errors are those of package signer, as inside the daemon: errors.Is(err,
// signer.ErrDenied). An [Error] is a refusal that the daemon answered. If there is no
// answer, the error is signer.ErrUnavailable and says what to do.
//
// The package links neither cgo nor a cloud SDK nor the daemon.
package client
