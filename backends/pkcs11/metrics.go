package pkcs11

import (
	"signetd/signer"
)

var _ signer.Metered = (*Backend)(nil)

// Metrics implements [signer.Metered].
func (b *Backend) Metrics() []signer.Metric {
	s := b.Stats()
	down := 0
	if s.Down {
		down = 1
	}
	gauge := func(name, help string, value int) signer.Metric {
		return signer.Metric{Name: "signetd_pkcs11_" + name, Help: help, Value: float64(value)}
	}
	counter := func(name, help string, value uint64) signer.Metric {
		return signer.Metric{Name: "signetd_pkcs11_" + name, Help: help, Counter: true, Value: float64(value)}
	}

	return []signer.Metric{
		gauge("sessions", "Sessions that may be open.", s.Sessions),
		gauge("sessions_busy", "Sessions that an operation runs on.", s.Busy),
		gauge("waiting", "Operations that wait for a session.", s.Waiting),
		gauge("abandoned", "Operations that still run although their caller has left.", s.Abandoned),
		gauge("down", "1 while the token is gone and every operation is refused.", down),
		counter("abandoned_total", "Operations whose deadline passed while they ran.", s.AbandonedTotal),
		counter("expired_total", "Operations whose deadline passed before they reached the token.", s.ExpiredTotal),
		counter("overloaded_total", "Operations refused because too many waited.", s.OverloadedTotal),
		counter("stuck_total", "Operations refused because every session hung.", s.StuckTotal),
		counter("repairs_total", "Times that login and keys were found again.", s.RepairsTotal),
		counter("restarts_total", "Times that the module was initialised anew.", s.RestartsTotal),
		counter("logins_total", "Logins, by all backends of the token.", s.LoginsTotal),
	}
}
