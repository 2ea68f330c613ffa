package signer

import "context"

// A WatchedContext is the context of a caller who is answered for by somebody else
// when it ends. A call that cannot be interrupted, such as one into a PKCS#11 module,
// may then run on the caller's own goroutine, and return when it returns: that spares
// two changes of goroutine a call. A context that is derived from a watched one is not
// watched.
type WatchedContext interface {
	context.Context
	// Watched does nothing; it tells this context from others.
	Watched()
}

// Watched reports whether the caller of a method with ctx need not have the answer
// as soon as ctx ends: see [WatchedContext].
func Watched(ctx context.Context) bool {
	_, ok := ctx.(WatchedContext)
	return ok
}
