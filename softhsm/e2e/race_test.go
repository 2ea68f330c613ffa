//go:build race

package e2e

// raceEnabled says that the daemon under test has the race detector on too.
const raceEnabled = true
