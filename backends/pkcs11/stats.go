package pkcs11

import "signetd/backends/pkcs11/pool"

// Stats says what a [Backend] is doing and did since it was opened.
type Stats struct {
	pool.Stats // of its sessions

	Down bool // the token is gone, and every operation is refused

	RepairsTotal  uint64 // times that the login and the keys were found again
	RestartsTotal uint64 // attempts at that which initialised the module anew
	LoginsTotal   uint64 // calls of C_Login, by all backends of the token in this process
}
