package daemon

import (
	"fmt"
	"sync"
	"time"

	"signetd/daemon/audit"
	"signetd/signer"
)

// A pending is the audit record of a request that is done, on its way to the disk.
type pending struct {
	request Request
	rec     *audit.Record
	start   time.Time
	outcome error
	entry   audit.Entry
}

// A records collects the records of a request, or of the items of a batch, that the
// transport waits for before the answer leaves: requests that came together are worked
// on one after the other, and need to wait for the disk only once.
type records struct {
	mu   sync.Mutex
	list []pending
}

func (r *records) add(p pending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, p)
}

// commit waits until the records are written, and returns the first reason why one is
// not: no answer may leave then.
func (r *records) commit(s *Service) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var first error
	for i := range r.list {
		if err := s.commit(&r.list[i]); err != nil && first == nil {
			first = err
		}
	}
	clear(r.list)
	r.list = r.list[:0]
	return first
}

// record completes the audit record of a request and hands it to the log. Unless the
// transport collects it, it waits until the record is written, and returns why the
// answer must be withheld if it is not.
func (s *Service) record(r Request, rec *audit.Record, start time.Time, outcome error) error {
	rec.Time = start.UTC()
	rec.Request, rec.Item = r.ID, r.Item
	rec.Peer = audit.Peer{UID: r.Peer.UID, GID: r.Peer.GID, PID: r.Peer.PID}
	rec.Key = clip(rec.Key)
	rec.Outcome = signer.Code(outcome)
	if outcome != nil {
		rec.Reason = outcome.Error()
		rec.Rule = rule(outcome)
	}
	p := pending{r, rec, start, outcome, s.audit.Append(rec)}
	if r.records != nil {
		r.records.add(p)
		return nil
	}
	return s.commit(&p)
}

// commit waits for a record, and counts and logs its request.
func (s *Service) commit(p *pending) error {
	err := p.entry.Wait()
	rec := p.rec
	took, answered := time.Since(p.start), rec.Outcome
	if err != nil {
		s.metrics.auditErrors.Inc()
		s.log.Error("audit record not written, answer withheld", "request", rec.Request, "op", rec.Op, "err", err)
		err = fmt.Errorf("%w: the audit record cannot be written, so the answer is withheld", signer.ErrUnavailable)
		answered = signer.Code(err)
	}
	key, alg := rec.Key, rec.Alg
	if rec.KID == "" { // not known to be a key: a peer's text is no label
		key, alg = "", ""
	}
	s.metrics.observeRequest(requestLabels{rec.Op, key, alg, answered}, took)
	s.outages.note(s.log, rec, p.outcome)
	s.metrics.observePolicy(key, rec)
	if rec.Outcome == signer.CodeInternal {
		s.log.Error("internal error", "request", rec.Request, "peer", p.request.Peer, "op", rec.Op, "key", rec.Key, "err", p.outcome)
	}
	s.logRequest(p.request, rec, answered, took)
	return err
}
