package main

import (
	"os"
	"runtime"
)

// procsPerCPU is how many goroutines may be at work for each processor.
const procsPerCPU = 4

// addProcs lets more goroutines be at work at once than there are processors, unless
// the operator has set GOMAXPROCS. A call into a token keeps its place (a P of the scheduler) as long as there
// are free ones. Without any, Go's monitor looks every 20 µs for calls that take longer
// to give their places to others, and a goroutine that comes back changes threads to
// find one: with 64 clients that took a tenth of the throughput. From here on the number
// does not follow a CPU limit of the cgroup that changes.
func addProcs() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(procsPerCPU * runtime.GOMAXPROCS(0))
	}
}
