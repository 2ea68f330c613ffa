// Package server serves a [Handler], which is a daemon.Service, over Unix sockets by
// HTTP/1.1.
//
// server.go accepts connections and asks the kernel for the peer (peer_linux.go). fast.go
// reads the usual requests and has them answered on the connection's own
// goroutine; conn.go holds the responses until their audit records are written, and sends
// those of requests that came together by one write. A connection on which anything
// else comes is left to net/http (fallback.go). drain.go stops without losing a request.
package server
