package gcpkmstest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// KeyRing is the key ring that holds every key of a [Server].
const KeyRing = "projects/test/locations/europe-west1/keyRings/signetd"

// A Server is a Cloud KMS in this process. It is safe for concurrent use.
type Server struct {
	listener net.Listener
	memory   *bufconn.Listener
	grpc     *grpc.Server
	serving  sync.WaitGroup
	stop     chan struct{} // closed by Close; ends the calls that hang

	mu          sync.Mutex // for all below, and for what keys and faults point to
	keys        map[string]*cryptoKey
	faults      []*Fault
	calls       map[string]int
	permissions []string // nil: all
	quota       quota
	pageSize    int

	closing sync.Once
}

// New starts a Server that ends with t.
func New(t testing.TB) *Server {
	t.Helper()
	s, err := NewServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// NewServer starts a Server on a free port of the loopback interface. It must be
// closed.
func NewServer() (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("gcpkmstest: %w", err)
	}

	s := &Server{
		listener: listener, memory: bufconn.Listen(1 << 20), stop: make(chan struct{}),
		keys: map[string]*cryptoKey{}, calls: map[string]int{}, pageSize: 100,
	}

	s.grpc = grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	kmspb.RegisterKeyManagementServiceServer(s.grpc, &service{server: s})
	iampb.RegisterIAMPolicyServer(s.grpc, &iam{server: s})

	for _, l := range []net.Listener{s.listener, s.memory} {
		s.serving.Go(func() { _ = s.grpc.Serve(l) }) // ends with Close, and its error says only that
	}
	return s, nil
}

// Endpoint returns the address that s listens on, such as 127.0.0.1:4711. It speaks gRPC
// without TLS and ignores credentials.
func (s *Server) Endpoint() string { return s.listener.Addr().String() }

// Dial returns a connection to s that never leaves the process. The caller closes
// it.
func (s *Server) Dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///gcpkmstest",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.memory.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// Close ends every call and connection.
func (s *Server) Close() {
	s.closing.Do(func() {
		close(s.stop)
		s.grpc.Stop()
		s.serving.Wait()
	})
}

// Calls returns how often a method, such as AsymmetricSign, has been called. Calls that
// failed count.
func (s *Server) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// SetPermissions sets the permissions of the caller, such as
// cloudkms.cryptoKeyVersions.useToSign. No arguments give it all permissions, as it has
// at first, and [NoPermission] alone gives it none.
func (s *Server) SetPermissions(permissions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.permissions = slices.Clone(permissions)
}

// NoPermission is a permission that allows nothing; see [Server.SetPermissions].
const NoPermission = "none"

// SetQuota makes s refuse all but perSecond calls in each second with
// RESOURCE_EXHAUSTED; 0 is no limit. What one second does not use is lost.
func (s *Server) SetQuota(perSecond int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quota = quota{perSecond: perSecond}
}

// SetPageSize makes ListCryptoKeyVersions answer in pages of n versions. Google's
// pages have 100.
func (s *Server) SetPageSize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pageSize = n
}

// A quota counts the calls of a second.
type quota struct {
	perSecond int
	second    time.Time
	used      int
}

// take reports whether one more call is within the quota.
func (q *quota) take(now time.Time) bool {
	if q.perSecond == 0 {
		return true
	}
	if second := now.Truncate(time.Second); second != q.second {
		q.second, q.used = second, 0
	}
	q.used++
	return q.used <= q.perSecond
}
