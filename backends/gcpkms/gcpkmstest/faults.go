package gcpkmstest

import (
	"context"
	"path"
	"slices"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A Kind is a kind of [Fault].
type Kind string

// The kinds of [Fault]. Those from WrongCRC on are answers with the status OK.
const (
	Throttle        Kind = "throttle"        // RESOURCE_EXHAUSTED
	Unavailable     Kind = "unavailable"     // UNAVAILABLE
	Internal        Kind = "internal"        // INTERNAL
	Unauthenticated Kind = "unauthenticated" // UNAUTHENTICATED, as for expired credentials
	Denied          Kind = "denied"          // PERMISSION_DENIED
	Slow            Kind = "slow"            // the right answer after Delay
	Hang            Kind = "hang"            // no answer until the caller leaves
	Disable         Kind = "disable"         // the version is disabled before the call
	Destroy         Kind = "destroy"         // the version is scheduled for destruction before the call
	WrongCRC        Kind = "wrong-crc"       // the CRC32C of what is returned, one bit off
	NoCRC           Kind = "no-crc"          // the answer has no CRC32C
	NotVerified     Kind = "not-verified"    // verified_*_crc32c is false
	WrongName       Kind = "wrong-name"      // the name of another version
	WrongLevel      Kind = "wrong-level"     // another protection level
	FlippedBit      Kind = "flipped-bit"     // the result is one bit off, its CRC32C fits it
	AnotherKey      Kind = "another-key"     // the public key or signature of another key; all the rest is right
	AnotherAlg      Kind = "another-alg"     // GetPublicKey and GetCryptoKeyVersion name another algorithm
	Empty           Kind = "empty"           // an answer without any field
)

// A Fault says which calls go wrong, and how.
type Fault struct {
	Method string        // such as AsymmetricSign; empty for all
	Name   string        // of the version or key in the request; empty for all
	Kind   Kind          // what goes wrong
	Skip   int           // how many calls go well before the first that fails
	Times  int           // how many calls fail; 0 for one, negative for all
	Delay  time.Duration // for Slow
}

// Inject makes calls fail. If several faults match a call, the one that was injected
// first happens.
func (s *Server) Inject(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Heal removes all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// faultLocked returns the kind of the fault for a call, or "" if it goes well.
func (s *Server) faultLocked(method, name string) (Kind, time.Duration) {
	for i, f := range s.faults {
		if f.Method != "" && f.Method != method || f.Name != "" && f.Name != name {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times--; f.Times == 0 {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
		return f.Kind, f.Delay
	}
	return "", 0
}

// statuses are the faults that are a status, with Google's text.
var statuses = map[Kind]error{
	Throttle:        status.Error(codes.ResourceExhausted, "Quota exceeded for quota metric 'Cryptographic requests' and limit 'Cryptographic requests per minute' of service 'cloudkms.googleapis.com' for consumer 'project_number:1'."),
	Unavailable:     status.Error(codes.Unavailable, "The service is currently unavailable."),
	Internal:        status.Error(codes.Internal, "Internal error encountered."),
	Unauthenticated: status.Error(codes.Unauthenticated, "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential."),
	Denied:          status.Error(codes.PermissionDenied, "Permission denied on resource (or it may not exist)."),
}

type named interface{ GetName() string }

// intercept counts a call, and applies quota, faults and permissions to it.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	name := ""
	if n, ok := req.(named); ok {
		name = n.GetName()
	}

	s.mu.Lock()
	s.calls[method]++
	within := s.quota.take(time.Now())
	kind, delay := s.faultLocked(method, name)
	permitted := s.permittedLocked(method)
	s.mu.Unlock()

	switch {
	case !within:
		return nil, statuses[Throttle]
	case statuses[kind] != nil:
		return nil, statuses[kind]
	case !permitted:
		return nil, status.Errorf(codes.PermissionDenied, "Permission '%s' denied on resource '%s' (or it may not exist).", methodPermissions[method], name)
	}

	if err := s.before(ctx, kind, name, delay); err != nil {
		return nil, err
	}

	resp, err := handler(ctx, req)
	if err != nil {
		return nil, err
	}
	return s.spoil(kind, req, resp)
}

// before applies the faults that happen before a call is answered.
func (s *Server) before(ctx context.Context, kind Kind, name string, delay time.Duration) error {
	var wait <-chan time.Time // nil: for ever
	switch kind {             //nolint:exhaustive // the others spoil the answer
	case Slow:
		wait = time.After(delay)
	case Hang:
	case Disable:
		s.SetState(name, kmspb.CryptoKeyVersion_DISABLED)
		return nil
	case Destroy:
		s.SetState(name, kmspb.CryptoKeyVersion_DESTROY_SCHEDULED)
		return nil
	default:
		return nil
	}

	select {
	case <-wait:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-s.stop:
		return statuses[Unavailable]
	}
}
