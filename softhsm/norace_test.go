//go:build !race

package softhsm_test

const raceEnabled = false
