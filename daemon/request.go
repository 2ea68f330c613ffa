package daemon

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"time"

	"signetd/daemon/audit"
)

// requestID returns 64 random bits in hexadecimal. They come from the runtime's
// generator, ChaCha8 with a seed from the kernel for each thread: as unlike each other
// as what the kernel itself gives, without asking it each time. An id names a request
// in logs; nobody gains anything by guessing it.
func requestID() string {
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], rand.Uint64()) // #nosec G404 -- see above
	var text [16]byte
	hex.Encode(text[:], id[:])
	return string(text[:])
}

// logRequest logs a request that has ended, for those who debug. That nobody does is
// found out before the line is made.
func (s *Service) logRequest(r Request, rec *audit.Record, answered string, took time.Duration) {
	if !s.log.Enabled(context.Background(), slog.LevelDebug) { //nolint:forbidigo // the log takes no part in the request
		return
	}
	s.log.Debug("request", "request", r.ID, "peer", r.Peer, "op", rec.Op, "key", rec.Key, "kid", rec.KID, "alg", rec.Alg, "outcome", answered, "dur", took)
}
