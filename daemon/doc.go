// Package daemon is the service: what a request may do, and what is done for it.
//
// One request goes straight through. Package daemon/server reads it and hands it to
// [Service.Answer], which looks the operation up in one table (operations.go). perform.go
// then takes every operation the same way: admission, the grant, the act itself, the audit
// record. The acts are in files named after what they do: sign.go, decrypt.go, seal.go and
// so on. [Response.Commit] waits for the record, and without it no answer leaves.
//
// Calls only go down, and the peer and the request are arguments. This package knows
// nothing of sockets, and package server knows nothing of keys. docs/request.md follows a
// request through the files.
package daemon
