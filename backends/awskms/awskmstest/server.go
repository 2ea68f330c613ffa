package awskmstest

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// A Config configures a [Server]. The zero value is a server in eu-west-1.
type Config struct {
	Region  string // Optional: eu-west-1
	Account string // 12 digits. Optional: 111122223333

	// The credentials that it accepts. Optional: an example of AWS's.
	AccessKeyID     string
	SecretAccessKey string
	// SessionToken is the token that requests must carry, too. Optional: without it
	// requests must carry none.
	SessionToken string

	// Quota is how many calls a second of Sign, Decrypt and the other operations with
	// keys it answers. More are ThrottlingException. Optional: no limit.
	Quota int
	// TLS is whether to speak HTTPS. Clients trust it by [Server.Certificate].
	TLS bool
}

// A Server is an AWS KMS of one account in one region. It is safe for concurrent use.
type Server struct {
	config Config
	http   *httptest.Server
	closed chan struct{}

	connections atomic.Int64 // that clients have made in all

	mu      sync.Mutex        // for all below, and for the credentials in config
	keys    map[string]*key   // by id
	aliases map[string]string // id of the key, by name: alias/NAME
	calls   map[string]int    // by operation
	denied  map[string]bool   // by operation
	faults  []*injected
	quota   *rate.Limiter
	now     func() time.Time
}

// Start starts a server. The caller calls Close.
func Start(c Config) *Server {
	for field, value := range map[*string]string{ // #nosec G101 -- AWS's example
		&c.Region: "eu-west-1", &c.Account: "111122223333", &c.AccessKeyID: "AKIAIOSFODNN7EXAMPLE", &c.SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
	} {
		if *field == "" {
			*field = value
		}
	}

	s := &Server{
		config: c, closed: make(chan struct{}), keys: map[string]*key{}, aliases: map[string]string{},
		calls: map[string]int{}, denied: map[string]bool{}, now: time.Now,
	}
	s.SetQuota(c.Quota)

	s.http = httptest.NewUnstartedServer(s)
	s.http.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.http.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // faults are not worth a log

	if c.TLS {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	return s
}

// New starts a server that ends with the test.
func New(t testing.TB, c Config) *Server {
	t.Helper()
	s := Start(c)
	t.Cleanup(s.Close)
	return s
}

// Close ends the server, and the calls that hang in it.
func (s *Server) Close() {
	close(s.closed)
	s.http.CloseClientConnections()
	s.http.Close()
}

// URL returns where the server is, for the endpoint of a client.
func (s *Server) URL() string { return s.http.URL }

// Region returns the region of the server.
func (s *Server) Region() string { return s.config.Region }

// Certificate returns the certificate of a server with TLS, in PEM, for the file
// that AWS_CA_BUNDLE names.
func (s *Server) Certificate() []byte {
	if s.http.Certificate() == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

// Env returns the environment that gives the server's credentials to the SDK's
// default chain, and keeps the SDK from looking for others.
func (s *Server) Env() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	env := map[string]string{ // #nosec G101 -- of this server
		"AWS_ACCESS_KEY_ID": s.config.AccessKeyID, "AWS_SECRET_ACCESS_KEY": s.config.SecretAccessKey, "AWS_SESSION_TOKEN": s.config.SessionToken,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	}

	for _, name := range []string{"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_USE_FIPS_ENDPOINT", "AWS_CA_BUNDLE"} {
		env[name] = ""
	}
	return env
}

// Setenv sets Env for the test.
func (s *Server) Setenv(t testing.TB) {
	t.Helper()
	for name, value := range s.Env() {
		t.Setenv(name, value)
	}
}

// SetCredentials replaces the credentials that it accepts.
func (s *Server) SetCredentials(accessKeyID, secretAccessKey, sessionToken string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config.AccessKeyID, s.config.SecretAccessKey, s.config.SessionToken = accessKeyID, secretAccessKey, sessionToken
}

// SetClock replaces the host's clock, by which it checks signatures.
func (s *Server) SetClock(now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
}

// SetQuota sets Config.Quota; 0 is no limit.
func (s *Server) SetQuota(perSecond int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quota = nil
	if perSecond > 0 {
		s.quota = rate.NewLimiter(rate.Limit(perSecond), max(1, perSecond/10))
	}
}

// Deny takes the permissions for operations, such as Sign, from the credentials: they
// answer AccessDeniedException from then on.
func (s *Server) Deny(ops ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		s.denied[op] = true
	}
}

// Calls returns how many requests of each operation have come. Requests whose signature
// was refused count.
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// Connections returns how many connections clients have made in all.
func (s *Server) Connections() int { return int(s.connections.Load()) }

// maxRequest is longer than any request, in bytes: the longest message in base64, with
// room for the rest.
const maxRequest = 64 << 10

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{server: s, w: w, r: r}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		x.fail(problem("SerializationException", "the body is too long or ends early"))
		return
	}

	op, bad := operation(r)
	if bad != nil {
		x.fail(bad)
		return
	}
	x.op, x.body = op, body

	fault := s.count(op)
	if fault.before != nil {
		fault.before()
	}
	if fault.instead != nil {
		fault.instead(x)
		return
	}

	if bad := s.authenticate(r, body); bad != nil {
		x.fail(bad)
		return
	}
	answer, bad := s.do(r.Context(), op, body)
	if bad != nil {
		x.fail(bad)
		return
	}

	if fault.change != nil {
		fault.change(x, answer)
	}
	if fault.send != nil {
		fault.send(x, answer)
		return
	}
	x.send(http.StatusOK, answer)
}

// count counts a call and returns the fault for it.
func (s *Server) count(op string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++

	for _, f := range s.faults {
		if f.op != op && f.op != "" {
			continue
		}
		if f.skip--; f.skip >= 0 {
			continue
		}
		if f.times != 0 {
			f.times--
			return f.fault
		}
	}
	return Fault{}
}

// do runs an operation.
func (s *Server) do(_ context.Context, op string, body []byte) (answer, *Problem) {
	s.mu.Lock()
	o, ok := operations[op]
	denied := s.denied[op]
	throttled := o.crypto && s.quota != nil && !s.quota.Allow() // under mu, since Allow reads the clock outside of its own lock
	s.mu.Unlock()

	switch {
	case !ok:
		return nil, problem("UnknownOperationException", "the server has no "+op)
	case throttled:
		return nil, problem("ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
	}
	return o.run(s, body, denied)
}

// An exchange is a request that is being answered.
type exchange struct {
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	op     string
	body   []byte
}

// An answer has the members of the JSON of an answer.
type answer = map[string]any

func (x *exchange) fail(p *Problem) {
	x.send(p.status(), answer{"__type": p.Code, "message": p.Message})
}

func (x *exchange) send(status int, a answer) { x.write(status, contentType, encode(a)) }

func (x *exchange) write(status int, typ string, body []byte) {
	h := x.w.Header()
	h.Set("Content-Type", typ)
	h.Set("X-Amzn-Requestid", requestID())
	h.Set("Date", x.server.clock().UTC().Format(http.TimeFormat))
	h.Set("Content-Length", fmt.Sprint(len(body)))
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body) // #nosec G705 -- JSON, and to no browser. If it fails the client has gone
}

func (s *Server) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}
