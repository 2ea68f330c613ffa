package server

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"signetd/daemon/policy"
)

// peerOf asks the kernel who is on the other end of a connection: LOCAL_PEERCRED
// and LOCAL_PEERPID. The first group is the primary one.
func peerOf(c *net.UnixConn) (peer policy.Peer, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer, err
	}

	cerr := raw.Control(func(fd uintptr) {
		var cred *unix.Xucred
		if cred, err = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED); err != nil {
			return
		}
		if cred.Ngroups < 1 || int(cred.Ngroups) > len(cred.Groups) {
			err = errors.New("no groups")
			return
		}

		peer = policy.Peer{UID: cred.Uid, GID: cred.Groups[0], Groups: cred.Groups[1:cred.Ngroups]}
		if pid, perr := unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERPID); perr == nil {
			peer.PID = int32(pid)
		}
	})

	if err = errors.Join(cerr, err); err != nil {
		return policy.Peer{}, fmt.Errorf("peer credentials: %w", err)
	}
	return peer, nil
}
