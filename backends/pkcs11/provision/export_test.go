//go:build cgo

package provision

// KeepOrDestroy is the check that GenerateKey makes of a new key.
var KeepOrDestroy = keepOrDestroy
