package server

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"

	"signetd/daemon/policy"
)

// maxGroups bounds the supplementary groups that are asked for: the kernel's
// NGROUPS_MAX.
const maxGroups = 65536

// peerOf asks the kernel who is on the other end of a connection: SO_PEERCRED
// and SO_PEERGROUPS, both fixed when the peer called connect.
func peerOf(c *net.UnixConn) (peer policy.Peer, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer, err
	}

	cerr := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil { // #nosec G115 -- a file descriptor
			return
		}
		peer = policy.Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid}
		peer.Groups, err = peerGroups(fd)
	})
	if err = errors.Join(cerr, err); err != nil {
		return policy.Peer{}, fmt.Errorf("peer credentials: %w", err)
	}
	return peer, nil
}

// peerGroups returns the supplementary groups. It makes the system call itself, because
// package unix has no wrapper for an option whose value is an array.
func peerGroups(fd uintptr) ([]uint32, error) {
	for n := 64; ; {
		groups := make([]uint32, n)
		size := uint32(n) * 4                                              // #nosec G115 -- at most maxGroups * 4
		value, length := unsafe.Pointer(&groups[0]), unsafe.Pointer(&size) // #nosec G103 -- see above
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS, uintptr(value), uintptr(length), 0)
		switch {
		case errno == unix.ERANGE && n < maxGroups:
			n = min(int(size)/4+1, maxGroups)
		case errno != 0:
			return nil, errno
		default:
			return groups[:size/4], nil
		}
	}
}
