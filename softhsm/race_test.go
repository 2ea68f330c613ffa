//go:build race

package softhsm_test

// raceEnabled says that the daemon under test has the race detector on too.
const raceEnabled = true
