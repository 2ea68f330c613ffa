// Package daemon serves keys over a Unix socket. One request goes straight
// through: http.go decodes it, limits.go gives it a slot, service.go asks the
// policy, takes the active version from the ring, has it sign or open, and
// writes the audit record; then the answer leaves. Calls only go down: identity
// and request are arguments, and service.go knows no HTTP.
package daemon
