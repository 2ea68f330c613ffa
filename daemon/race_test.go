//go:build race

package daemon

// raceEnabled says whether the tests run with the race detector on.
const raceEnabled = true
