package gcpkmstest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var (
	keyName     = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$`)
	versionName = regexp.MustCompile(`^(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)/cryptoKeyVersions/([0-9]+)$`)
)

// A cryptoKey has one purpose, and versions that are numbered from 1.
type cryptoKey struct {
	name      string
	algorithm Algorithm
	level     kmspb.ProtectionLevel
	versions  []*version
}

// A version is one key pair or secret.
type version struct {
	name      string
	key       string
	algorithm Algorithm
	spec      spec
	level     kmspb.ProtectionLevel
	state     kmspb.CryptoKeyVersion_CryptoKeyVersionState
	created   time.Time
	secret    any
}

// CreateKey makes a CryptoKey without versions in [KeyRing] and returns its name.
// Its protection level is HSM for secp256k1, which Google has only there, and SOFTWARE
// otherwise. It panics if the CryptoKey exists or a [Server] does not have the
// algorithm.
func (s *Server) CreateKey(id string, algorithm Algorithm) string {
	name := KeyRing + "/cryptoKeys/" + id
	if _, ok := specs[algorithm]; !ok || !keyName.MatchString(name) {
		panic(fmt.Sprintf("gcpkmstest: no CryptoKey %q of algorithm %v", id, algorithm))
	}

	level := kmspb.ProtectionLevel_SOFTWARE
	if algorithm == kmspb.CryptoKeyVersion_EC_SIGN_SECP256K1_SHA256 {
		level = kmspb.ProtectionLevel_HSM
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[name] != nil {
		panic(fmt.Sprintf("gcpkmstest: CryptoKey %q exists", id))
	}
	s.keys[name] = &cryptoKey{name: name, algorithm: algorithm, level: level}
	return name
}

// CreateVersion makes an enabled version of a CryptoKey and returns its name. It
// panics if there is no such CryptoKey.
func (s *Server) CreateVersion(key string) string {
	s.mu.Lock()
	k := s.keys[key]
	s.mu.Unlock()
	if k == nil {
		panic(fmt.Sprintf("gcpkmstest: no CryptoKey %q", key))
	}

	v := &version{
		key: key, algorithm: k.algorithm, spec: specs[k.algorithm], level: k.level,
		state: kmspb.CryptoKeyVersion_ENABLED, created: time.Now().UTC(),
	}
	var err error
	if v.secret, err = generate(v.spec); err != nil {
		panic(err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	k.versions = append(k.versions, v)
	v.name = key + "/cryptoKeyVersions/" + strconv.Itoa(len(k.versions))
	return v.name
}

// SetState puts a version into a state. It panics if there is no such version.
func (s *Server) SetState(name string, state kmspb.CryptoKeyVersion_CryptoKeyVersionState) {
	s.change(name, func(v *version) { v.state = state })
}

// SetCreateTime says when a version was made. It panics if there is no such
// version.
func (s *Server) SetCreateTime(name string, at time.Time) {
	s.change(name, func(v *version) { v.created = at })
}

func (s *Server) change(name string, f func(*version)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.findLocked(name)
	if err != nil {
		panic(fmt.Sprintf("gcpkmstest: version %q: %v", name, err))
	}
	f(v)
}

// findLocked returns the version with a name, in any state.
func (s *Server) findLocked(name string) (*version, error) {
	m := versionName.FindStringSubmatch(name)
	if m == nil {
		return nil, status.Errorf(codes.InvalidArgument, "Invalid resource name: %q is not a CryptoKeyVersion.", name)
	}

	n, err := strconv.Atoi(m[2])
	k := s.keys[m[1]]
	if err != nil || k == nil || n < 1 || n > len(k.versions) {
		return nil, status.Errorf(codes.NotFound, "CryptoKeyVersion %s not found.", name)
	}
	return k.versions[n-1], nil
}

// version returns a copy of a version in any state.
func (s *Server) version(name string) (version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.findLocked(name)
	if err != nil {
		return version{}, err
	}
	return *v, nil
}

// enabled returns a copy of a version that can be used for a purpose.
func (s *Server) enabled(name string, purpose kmspb.CryptoKey_CryptoKeyPurpose) (version, error) {
	v, err := s.version(name)
	switch {
	case err != nil:
		return v, err
	case v.spec.purpose != purpose:
		return v, status.Errorf(codes.FailedPrecondition, "%s is of purpose %v, not %v.", v.key, v.spec.purpose, purpose)
	case v.state != kmspb.CryptoKeyVersion_ENABLED:
		return v, status.Errorf(codes.FailedPrecondition, "%s is not enabled, current state is: %v.", name, v.state)
	case v.spec.scheme == schemeNone:
		return v, status.Errorf(codes.Unimplemented, "gcpkmstest has no %v.", v.algorithm)
	}
	return v, nil
}

// keyOf returns a copy of a CryptoKey.
func (s *Server) keyOf(name string) (cryptoKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !keyName.MatchString(name) {
		return cryptoKey{}, status.Errorf(codes.InvalidArgument, "Invalid resource name: %q is not a CryptoKey.", name)
	}
	k := s.keys[name]
	if k == nil {
		return cryptoKey{}, status.Errorf(codes.NotFound, "CryptoKey %s not found.", name)
	}
	return *k, nil
}

// primary returns the name of the version that encrypts for a CryptoKey: the last one
// that is enabled.
func (s *Server) primary(key string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[key]
	if k == nil {
		return "", status.Errorf(codes.NotFound, "CryptoKey %s not found.", key)
	}

	for i := len(k.versions) - 1; i >= 0; i-- {
		if k.versions[i].state == kmspb.CryptoKeyVersion_ENABLED {
			return k.versions[i].name, nil
		}
	}
	return "", status.Errorf(codes.FailedPrecondition, "CryptoKey %s has no enabled primary version.", key)
}

// proto returns what GetCryptoKeyVersion answers.
func (v *version) proto() *kmspb.CryptoKeyVersion {
	return &kmspb.CryptoKeyVersion{
		Name: v.name, State: v.state, ProtectionLevel: v.level, Algorithm: v.algorithm, CreateTime: timestamppb.New(v.created),
	}
}

// number returns the last part of the version's name.
func (v *version) number() string { return v.name[strings.LastIndexByte(v.name, '/')+1:] }
