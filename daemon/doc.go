// Package daemon serves keys over a Unix socket. One request goes straight
// through: http.go decodes it, limits.go gives it a slot, its operation in sign.go,
// open.go or keys.go asks the policy, takes a version from the ring and has it sign
// or open, and service.go writes the audit record; then the answer leaves. Calls
// only go down: identity and request are arguments, and of these files http.go
// alone knows HTTP.
package daemon
