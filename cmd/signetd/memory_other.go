//go:build !linux

package main

// settle does nothing on this system.
func settle() {}
