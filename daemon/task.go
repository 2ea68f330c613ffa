package daemon

import (
	"context"
	"sync"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/signer/supervise"
)

// A task is one operation on its way from admission to record. The goroutine that
// performs the operation owns it; the watchdog touches only what is under mu, and work.
type task struct {
	service *Service
	request Request
	start   time.Time
	work    supervise.Work
	rec     record

	mu       sync.Mutex
	admitted *peerAdmission // nil unless t has a place
	noted    used
}

// A used names the version of a key that an operation used.
type used struct{ key, kid, alg string }

func newTask(s *Service, q *Request, op api.Op, key string) *task {
	t := &task{service: s, request: *q, start: time.Now(), noted: used{key: key}}
	t.work.Owner, t.work.Due = t, t.start.Add(s.limits.Timeout)
	t.rec.Op, t.rec.Key = string(op), key
	return t
}

// admit waits for a place for t, which release gives back.
func (t *task) admit(ctx context.Context) error {
	s := t.service
	place, err := s.admission.acquire(ctx, t.request.Peer.UID)
	s.metrics.queue.Observe(time.Since(t.start).Seconds())
	if err != nil {
		return err
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.admitted = place
	s.metrics.inFlight.Inc()
	return nil
}

// release gives the place of t back, if it has one.
func (t *task) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.admitted == nil {
		return
	}

	t.service.metrics.inFlight.Dec()
	t.service.admission.release(t.request.Peer.UID, t.admitted)
	t.admitted = nil
}

// note writes down which version of a key t uses. From then on the key's name is known to
// be one of the config, and may be the label of a metric.
func (t *task) note(u used) {
	t.rec.Key, t.rec.KID, t.rec.Alg = u.key, u.kid, u.alg
	t.mu.Lock()
	defer t.mu.Unlock()
	t.noted = u
}

// finishOnce reports whether the caller is the one who answers for t: the goroutine that
// performs it, or the watchdog. What the other has to say is dropped.
func (t *task) finishOnce() bool {
	if !t.work.FinishOnce() {
		return false
	}
	t.service.audit.Expect(-1) // the record comes now
	return true
}

// timeOut ends t in place of the goroutine that is stuck in it, and records that its time
// was over. It reports false if the goroutine has ended t after all.
func (t *task) timeOut() (*record, bool) {
	if !t.finishOnce() {
		return nil, false
	}
	t.release()

	// The goroutine may still be filling in t.rec: only what note wrote down is safe.
	t.mu.Lock()
	rec := &record{Record: audit.Record{Op: t.rec.Op, Key: t.noted.key, KID: t.noted.kid, Alg: t.noted.alg}}
	t.mu.Unlock()
	return t.conclude(rec, context.DeadlineExceeded), true
}
