package main

import (
	"os"
	"runtime"
	"sync"
)

// procsPerCPU is how many Ps of Go's scheduler there are for each processor.
const procsPerCPU = 4

// addProcs raises GOMAXPROCS above the number of processors.
//
// A call into a token is a cgo call, and its goroutine keeps its P while other Ps are
// idle. If none is idle, Go's monitor, which looks every 20 µs, takes the P of a call that
// lasts longer and gives it to another goroutine; the goroutine that comes back must then
// wait for a P and often changes threads. With 64 clients that cost a tenth of the
// throughput. docs/decisions/0018 has the figures.
//
// Once GOMAXPROCS is set, Go no longer follows a change of the cgroup's CPU limit.
var addProcs = sync.OnceFunc(func() {
	runtime.GOMAXPROCS(procs(os.Getenv("GOMAXPROCS"), runtime.GOMAXPROCS(0)))
})

// procs returns the GOMAXPROCS to use: n, which Go has chosen, times procsPerCPU, unless
// the operator has set it in the environment.
func procs(env string, n int) int {
	if env != "" {
		return n
	}
	return procsPerCPU * n
}
