//go:build !race

package main

// raceEnabled says whether the daemon under test has the race detector on.
const raceEnabled = false
