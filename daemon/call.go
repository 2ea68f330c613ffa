package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
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

	// applicant and call are here, and not allocated one by one, for each request has them.
	applicant applicant
	call      call

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
	s.recorder.metrics.queue.Observe(time.Since(t.start).Seconds())
	if err != nil {
		return err
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.admitted = place
	s.recorder.metrics.inFlight.Inc()
	return nil
}

// release gives the place of t back, if it has one.
func (t *task) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.admitted == nil {
		return
	}

	t.service.recorder.metrics.inFlight.Dec()
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

// record completes rec, which is a record of t, and hands it to the log.
func (t *task) record(rec *record, outcome error) *record {
	return t.service.recorder.append(rec, &t.request, t.start, outcome)
}

// finishOnce reports whether the caller is the one who answers for t: the goroutine that
// performs it, or the watchdog. What the other has to say is dropped.
func (t *task) finishOnce() bool {
	if !t.work.FinishOnce() {
		return false
	}
	t.service.recorder.audit.Expect(-1) // the record comes now
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
	return t.record(rec, context.DeadlineExceeded), true
}

// An applicant is a peer with a request, before anything is granted. All that it offers is
// to ask the policy, and to find the key that a kid belongs to.
type applicant struct {
	gen     *generation
	task    *task
	granted bool // a question was answered with yes
}

// may asks for op on a key, or on the daemon itself if key is empty. The errors are
// ErrDenied.
func (a *applicant) may(op api.Op, key string) error {
	err := a.gen.setup.Policy.Check(a.task.request.Peer, op, key)
	a.granted = a.granted || err == nil
	return err
}

// mayAny asks for op on any key at all. The errors are ErrDenied.
func (a *applicant) mayAny(op api.Op) error {
	if !a.gen.setup.Policy.AllowsAny(a.task.request.Peer, op) {
		return fmt.Errorf("%w: no grant lets uid %d %s", signer.ErrDenied, a.task.request.Peer.UID, op)
	}
	a.granted = true
	return nil
}

// mayNamed asks for op on the named key, or if name is empty on any key at all: then the
// operation itself leaves out those that the peer may not use.
func (a *applicant) mayNamed(op api.Op, name string) (key string, err error) {
	if name == "" {
		return "", a.mayAny(op)
	}
	return name, a.may(op, name)
}

// A call is a request whose grant was asked for and given: see [grantCall]. Its methods
// choose the version of a key that does the work, and note it in the record.
type call struct {
	task *task
	gen  *generation
	ring *signer.Ring // that of gen when the request began
	peer policy.Peer
	now  time.Time
	key  string // the name of the key that the grant is on, or "" for one on any or no key
}

// may asks for a further grant, of op on key. Errors are ErrDenied.
func (c *call) may(op api.Op, key string) error { return c.gen.setup.Policy.Check(c.peer, op, key) }

// rec is the audit record of the call, for the operation to fill in.
func (c *call) rec() *record { return &c.task.rec }

// use notes which version of the named key does the work, and with which algorithm.
func (c *call) use(key string, v *signer.Version, alg signer.Alg) {
	c.task.note(used{key, v.KID(), string(alg)})
}

// active returns the version of the key that signs or is encrypted to now, and the
// algorithm to use: the one that is asked for, or the key's first.
func (c *call) active(want string) (*signer.Version, signer.Alg, error) {
	v, err := c.ring.Active(c.key, c.now)
	return c.chosen(want, v, err)
}

// version returns the version of the key with the given kid, or if kid is empty the one
// that config and clock make active. A version whose time has not come does not
// sign, but it decrypts: its public key may be out already.
func (c *call) version(kid, want string) (*signer.Version, signer.Alg, error) {
	if kid == "" {
		k, err := c.ring.Key(c.key)
		if err != nil {
			return nil, "", err
		}
		v, err := k.Intended(c.now)
		return c.chosen(want, v, err)
	}

	name, v, err := c.ring.Version(kid)
	switch {
	case err != nil && anyUnseen(c.ring, []string{c.key}):
		err = fmt.Errorf("%w: key %.64q has a version whose backend has not answered yet: the kid may be that one's", signer.ErrUnavailable, c.key)
	case err != nil || name != c.key || v.Use() == signer.UseSig && v.NotBefore().After(c.now):
		err = fmt.Errorf("%w: key %.64q has no version with that kid", signer.ErrNotFound, c.key)
	}
	return c.chosen(want, v, err)
}

func (c *call) chosen(want string, v *signer.Version, err error) (*signer.Version, signer.Alg, error) {
	if err != nil {
		return nil, "", err
	}
	alg, err := v.Alg(signer.Alg(want))
	if err != nil {
		return nil, "", err
	}
	c.use(c.key, v, alg)
	return v, alg, nil
}

// sign calls f with the versions of the key that may sign now, one after the other, until f
// returns anything but ErrUnavailable, and returns the version that it was called with then.
// With a kid, only the version of that kid is tried. The record names the version that was
// tried last.
func (c *call) sign(ctx context.Context, kid, want string, f func(*signer.Version, signer.Alg) error) (*signer.Version, error) {
	if kid != "" {
		v, alg, err := c.version(kid, want)
		if err != nil {
			return nil, err
		}
		return v, f(v, alg)
	}

	k, err := c.ring.Key(c.key)
	if err != nil {
		return nil, err
	}
	versions, err := k.Candidates(c.now)
	if err != nil {
		return nil, err
	}

	var first error // of the version that was tried first: the other versions were tried only because of it
	for i, v := range versions {
		alg, err := v.Alg(signer.Alg(want))
		if err != nil {
			return nil, err
		}
		c.use(c.key, v, alg)
		if err = f(v, alg); !errors.Is(err, signer.ErrUnavailable) {
			return v, err
		}

		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
		if i < len(versions)-1 {
			c.task.service.recorder.metrics.ObserveFailover(c.key, v.Backend())
		}
	}
	return nil, first
}

// begun returns the versions of the named key whose time has come.
func (c *call) begun(name string) (list []*signer.Version) {
	k, err := c.ring.Key(name)
	if err != nil {
		return nil
	}
	for _, v := range k.Versions {
		if !v.NotBefore().After(c.now) {
			list = append(list, v)
		}
	}
	return list
}

// anyUnseen reports whether one of the named keys has a version of which not even the kid
// is known.
func anyUnseen(ring *signer.Ring, names []string) bool {
	return slices.ContainsFunc(ring.Unseen(), func(k signer.NamedKey) bool { return slices.Contains(names, k.Name) })
}

// inRecord encodes bytes for the audit record: base64url without padding.
func inRecord(data []byte) string {
	var text [128]byte // most are a hash, of 86 characters at most
	return string(base64.RawURLEncoding.AppendEncode(text[:0], data))
}

// hashInRecord encodes the SHA-256 of an object, which may be long or secret, for the audit
// record.
func hashInRecord(object []byte) string {
	sum := sha256.Sum256(object)
	return inRecord(sum[:])
}

// headerOf is the part of a protected header that a request may set.
func headerOf(h *api.Header) signer.Header {
	if h == nil {
		return signer.Header{}
	}
	return signer.Header{Typ: h.Typ, Cty: h.Cty}
}

// checkSerialization refuses a serialization that does not exist.
func checkSerialization(form string) error {
	switch form {
	case "", api.Compact, api.Flattened, api.General:
		return nil
	}
	return fmt.Errorf("%w: serialization: %s, %s or %s", signer.ErrInvalid, api.Compact, api.Flattened, api.General)
}
