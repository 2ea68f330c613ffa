//go:build !linux && !darwin

package server

import (
	"errors"
	"net"

	"signetd/daemon/policy"
)

// peerOf refuses every connection, because the kernel of this system does not name the peer.
func peerOf(*net.UnixConn) (policy.Peer, error) {
	return policy.Peer{}, errors.New("peer credentials: this system does not give them (Linux and macOS do)")
}
