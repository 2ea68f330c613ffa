package daemon

import (
	"net/http"
	"strconv"
	"time"
)

// Answers are what a connection has to be told: the answers to requests that came
// together, in their order, until one write sends them.
type answers struct {
	out      []byte // may hold secrets: cleared once it is sent
	list     []sent
	since    time.Time // the first was ready
	writeBy  time.Time // the connection's write deadline
	lastDate dateLine
}

// A sent is an answer whose records may not be written yet.
type sent struct {
	request Request
	records records
	end     int // of the answer in out
}

// begin makes room for the next answer, to a request of a peer.
func (a *answers) begin(r Request) *sent {
	if n := len(a.list); n < cap(a.list) {
		a.list = a.list[:n+1] // with the space that its records had before
	} else {
		a.list = append(a.list, sent{})
	}
	s := &a.list[len(a.list)-1]
	s.request = r
	s.request.records = &s.records
	return s
}

// headBytes is more than the head of an answer takes.
const headBytes = 512

// add is the answer to the request that began last. No copy of an answer before it is
// left behind in a buffer that was too short.
func (a *answers) add(r response, last bool) {
	now := time.Now()
	if len(a.out) == 0 {
		a.since = now
	}
	s := &a.list[len(a.list)-1]
	if n := len(a.out) + headBytes + len(r.body); n > cap(a.out) {
		a.out = growCleared(a.out, max(n, 2*cap(a.out))-len(a.out))
	}
	a.out = a.append(a.out, s.request.ID, r, last, now)
	s.end = len(a.out)
	clear(r.body)
}

// append appends an HTTP response (RFC 9112 section 4).
func (a *answers) append(b []byte, id string, r response, last bool, now time.Time) []byte {
	if r.status == http.StatusOK {
		b = append(b, "HTTP/1.1 200 OK\r\n"...)
	} else {
		b = append(b, "HTTP/1.1 "...)
		b = strconv.AppendInt(b, int64(r.status), 10)
		b = append(append(append(b, ' '), http.StatusText(r.status)...), "\r\n"...)
	}
	b = append(b, "Content-Type: application/json\r\nCache-Control: no-store\r\n"...)
	b = append(b, a.lastDate.at(now)...)
	b = append(append(b, "Request-Id: "...), id...)
	if r.retryAfter != "" {
		b = append(append(b, "\r\nRetry-After: "...), r.retryAfter...)
	}
	if r.allow != "" {
		b = append(append(b, "\r\nAllow: "...), r.allow...)
	}
	if last {
		b = append(b, "\r\nConnection: close"...)
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.body)), 10)
	return append(append(b, "\r\n\r\n"...), r.body...)
}

// send waits until the records are written and writes the answers to c. What has no
// record is withheld.
func (a *answers) send(c *conn) error {
	if len(a.list) == 0 {
		return nil
	}
	withheld := a.commit(c.server.service)
	out := a.out
	if withheld != nil {
		out = a.without(withheld)
	}
	now := time.Now()
	if a.writeBy.Sub(now) < writeTimeout/2 { // setting it costs more than looking at it
		a.writeBy = now.Add(writeTimeout)
		_ = c.SetWriteDeadline(a.writeBy) // a connection that is closed fails to write, too
	}
	_, err := c.UnixConn.Write(out)
	clear(out)
	clear(a.out)
	a.out, a.list = a.out[:0], a.list[:0]
	if cap(a.out) > keepBuffer {
		a.out = nil
	}
	return err
}

// commit waits for all records, and returns by answer why it is withheld; nil if none is.
func (a *answers) commit(s *Service) map[int]error {
	var withheld map[int]error
	for i := range a.list {
		if err := a.list[i].records.commit(s); err != nil {
			if withheld == nil {
				withheld = map[int]error{}
			}
			withheld[i] = err
		}
	}
	return withheld
}

// without is out with errors in place of the answers that are withheld.
func (a *answers) without(withheld map[int]error) []byte {
	out := make([]byte, 0, len(a.out)+2*headBytes*len(withheld)) // an error is short
	from := 0
	for i := range a.list {
		s := &a.list[i]
		if err := withheld[i]; err != nil {
			r := fail(&request{Request: s.request}, err)
			out = a.append(out, s.request.ID, r, false, time.Now())
		} else {
			out = append(out, a.out[from:s.end]...)
		}
		from = s.end
	}
	return out
}

// A dateLine is the Date header of the second that it was last asked for (RFC 9110
// section 6.6.1).
type dateLine struct {
	second int64
	line   []byte
}

func (d *dateLine) at(now time.Time) []byte {
	if s := now.Unix(); s != d.second {
		d.second = s
		d.line = append(now.UTC().AppendFormat(append(d.line[:0], "Date: "...), http.TimeFormat), "\r\n"...)
	}
	return d.line
}
