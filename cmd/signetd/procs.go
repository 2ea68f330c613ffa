package main

import (
	"os"
	"runtime"
	"sync"
)

// procsPerCPU is how many goroutines may be at work for each processor.
const procsPerCPU = 4

// addProcs lets more goroutines be at work at once than there are processors. A call
// into a token keeps its place (a P of Go's scheduler) as long as others are free.
// Without any, Go's monitor looks every 20 µs for calls that take longer, to give their
// places to others, and a goroutine that comes back changes threads to find one: with
// 64 clients that took a tenth of the throughput. From here on the number does not
// follow a CPU limit of the cgroup that changes. See docs/decisions/0018.
var addProcs = sync.OnceFunc(func() {
	runtime.GOMAXPROCS(procs(os.Getenv("GOMAXPROCS"), runtime.GOMAXPROCS(0)))
})

// procs is how many goroutines may be at work, where Go would have n: so many, if the
// operator has set GOMAXPROCS to what is set.
func procs(set string, n int) int {
	if set != "" {
		return n
	}
	return procsPerCPU * n
}
