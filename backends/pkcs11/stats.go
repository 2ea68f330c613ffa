package pkcs11

// Stats says what a [Backend] is doing and did since it was opened.
type Stats struct {
	Sessions  int // that may be open: fewer than configured when the token has no more
	Busy      int // sessions that an operation runs on
	Waiting   int // operations that wait for a session
	Abandoned int // operations that still run although their caller has left

	AbandonedTotal  uint64 // operations whose caller left while they ran
	ExpiredTotal    uint64 // operations whose deadline passed before they reached the token
	OverloadedTotal uint64 // operations refused because too many waited
	StuckTotal      uint64 // operations refused because every session hung
}
