//go:build !linux && !darwin

package server

import (
	"errors"
	"net"

	"signetd/daemon/policy"
)

// peerOf refuses every connection: a peer that the kernel does not name is none.
func peerOf(*net.UnixConn) (policy.Peer, error) {
	return policy.Peer{}, errors.New("peer credentials: this system does not give them (Linux and macOS do)")
}
