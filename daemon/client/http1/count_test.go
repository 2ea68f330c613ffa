package http1

import (
	"net"
	"sync/atomic"
	"time"
)

// A countedConn counts the reads and writes of a connection.
type countedConn struct {
	net.Conn
	reads, writes *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error)  { c.reads.Add(1); return c.Conn.Read(b) }
func (c countedConn) Write(b []byte) (int, error) { c.writes.Add(1); return c.Conn.Write(b) }

// countConns counts the connections that c makes from now on, and their reads and writes.
func countConns(c *testPool, reads, writes, conns *atomic.Int64) {
	dial := c.dial
	c.dial = func(deadline time.Time) (net.Conn, error) {
		conn, err := dial(deadline)
		if err != nil {
			return nil, err
		}
		conns.Add(1)
		return countedConn{conn, reads, writes}, nil
	}
}
