package awskmstest

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// A Fault is something that goes wrong with one call.
type Fault struct {
	before  func()                      // runs before the call
	instead func(x *exchange)           // answers instead of the call
	change  func(x *exchange, a answer) // alters the answer of the call
	send    func(x *exchange, a answer) // sends the answer
}

type injected struct {
	op          string
	skip, times int
	fault       Fault
}

// Inject makes calls of an operation fail, or of every operation if op is "". The first
// to fail is the nth from now on (1 is the next), and times calls fail in all, or every
// later one if times is negative. If several faults match a call, the one that was
// injected first happens.
func (s *Server) Inject(op string, nth, times int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &injected{op, nth - 1, times, f})
}

// Heal removes all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Error answers with an error of AWS, such as KMSInternalException, and the status that
// AWS has for it.
func Error(code, message string) Fault {
	return Fault{instead: func(x *exchange) { x.fail(problem(code, message)) }}
}

// Throttling answers that there were too many calls.
func Throttling() Fault {
	return Error("ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
}

// ExpiredCredentials answers that the credentials have expired.
func ExpiredCredentials() Fault {
	return Error("ExpiredTokenException", "The security token included in the request is expired")
}

// Status answers with a status and no body, as a proxy may.
func Status(status int) Fault {
	return Fault{instead: func(x *exchange) { x.write(status, "text/plain", nil) }}
}

// HTML answers with a page, as a proxy may.
func HTML(status int) Fault {
	return Fault{instead: func(x *exchange) {
		x.write(status, "text/html", []byte("<html><body><h1>"+http.StatusText(status)+"</h1></body></html>"))
	}}
}

// Slow makes the call after a pause.
func Slow(by time.Duration) Fault { return Fault{before: func() { time.Sleep(by) }} }

// Hang never answers.
func Hang() Fault {
	return Fault{instead: func(x *exchange) {
		select {
		case <-x.r.Context().Done():
		case <-x.server.closed:
		}
	}}
}

// Before runs f and then makes the call: f may disable the key, point an alias at
// another, or note the time.
func Before(f func()) Fault { return Fault{before: f} }

// Reset resets the connection instead of answering.
func Reset() Fault {
	return Fault{instead: func(x *exchange) {
		c, _, err := http.NewResponseController(x.w).Hijack()
		if err != nil {
			return
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // RST instead of FIN
		}
		_ = c.Close()
	}}
}

// Cut makes the call and closes the connection in the middle of the answer.
func Cut() Fault {
	return Fault{send: func(x *exchange, a answer) {
		body := encode(a)
		h := x.w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Content-Length", fmt.Sprint(len(body)))
		x.w.WriteHeader(http.StatusOK)
		_, _ = x.w.Write(body[:len(body)/2]) // #nosec G705 -- to no browser. The client sees it, or is gone
		_ = http.NewResponseController(x.w).Flush()
		panic(http.ErrAbortHandler)
	}}
}

// CutJSON makes the call and sends half of the answer as if it were whole.
func CutJSON() Fault {
	return Fault{send: func(x *exchange, a answer) {
		body := encode(a)
		x.write(http.StatusOK, contentType, body[:len(body)/2])
	}}
}

// Empty answers {} with status 200.
func Empty() Fault {
	return Fault{instead: func(x *exchange) { x.send(http.StatusOK, answer{}) }}
}

// Without makes the call and leaves a member out of the answer.
func Without(member string) Fault {
	return Fault{change: func(_ *exchange, a answer) { delete(a, member) }}
}

// With makes the call and replaces the value of a member of the answer. A []byte is sent
// in base64.
func With(member string, value any) Fault {
	return Fault{change: func(_ *exchange, a answer) { a[member] = value }}
}

// OtherARN makes the call and names another key in the answer.
func OtherARN() Fault {
	return Fault{change: func(_ *exchange, a answer) {
		if arn, ok := a["KeyId"].(string); ok {
			a["KeyId"] = arn[:strings.LastIndexByte(arn, '/')+1] + "ffffffff-ffff-ffff-ffff-ffffffffffff"
		}
	}}
}

// OtherKey makes the call with another key of the same type and usage, and names the
// right one in the answer.
func OtherKey() Fault {
	return Fault{change: func(x *exchange, a answer) {
		other, p := x.server.withOtherKey(x.op, x.body)
		if p != nil {
			return
		}
		for member, value := range other {
			if member != "KeyId" {
				a[member] = value
			}
		}
	}}
}
