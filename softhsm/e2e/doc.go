// Package e2e drives the real signetd, as a process of its own, over its socket, with
// keys in a SoftHSM2 token. It has tests alone.
package e2e
