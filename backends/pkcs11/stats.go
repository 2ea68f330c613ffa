package pkcs11

// Stats says what a [Backend] is doing and did since it was opened.
type Stats struct {
	Sessions  int  // that may be open: fewer than configured when the token has no more
	Busy      int  // sessions that an operation runs on
	Waiting   int  // operations that wait for a session
	Abandoned int  // operations that still run although their caller has left
	Down      bool // the token is gone, and every operation is refused

	AbandonedTotal  uint64 // operations whose caller left while they ran
	ExpiredTotal    uint64 // operations whose deadline passed before they reached the token
	OverloadedTotal uint64 // operations refused because too many waited
	StuckTotal      uint64 // operations refused because every session hung
	RepairsTotal    uint64 // times that login and keys were found again
	RestartsTotal   uint64 // of them or of attempts, those that initialised the module anew
	LoginsTotal     uint64 // C_Login, by all backends of the token in this process
}
