package gcpkmstest

import (
	"context"
	"hash/crc32"
	"strconv"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A service answers the calls.
type service struct {
	kmspb.UnimplementedKeyManagementServiceServer
	server *Server
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, castagnoli)))
}

// verified reports whether the caller has sent the CRC32C of data. It returns an error
// for a wrong one.
func verified(what string, data []byte, crc *wrapperspb.Int64Value) (bool, error) {
	if crc == nil {
		return false, nil
	}
	if crc.GetValue() != checksum(data).GetValue() {
		return false, status.Errorf(codes.InvalidArgument, "The checksum in field %s_crc32c did not match the data in field %s.", what, what)
	}
	return true, nil
}

// GetCryptoKey implements [kmspb.KeyManagementServiceServer].
func (s *service) GetCryptoKey(_ context.Context, req *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	k, err := s.server.keyOf(req.GetName())
	if err != nil {
		return nil, err
	}

	p := &kmspb.CryptoKey{
		Name: k.name, Purpose: specs[k.algorithm].purpose,
		VersionTemplate: &kmspb.CryptoKeyVersionTemplate{ProtectionLevel: k.level, Algorithm: k.algorithm},
	}
	if len(k.versions) > 0 {
		p.CreateTime = timestamppb.New(k.versions[0].created)
	}

	if p.GetPurpose() != kmspb.CryptoKey_ENCRYPT_DECRYPT {
		return p, nil // without a primary version
	}
	if name, err := s.server.primary(k.name); err == nil {
		v, err := s.server.version(name)
		if err != nil {
			return nil, err
		}
		p.Primary = v.proto()
	}
	return p, nil
}

// GetCryptoKeyVersion implements [kmspb.KeyManagementServiceServer].
func (s *service) GetCryptoKeyVersion(_ context.Context, req *kmspb.GetCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	v, err := s.server.version(req.GetName())
	if err != nil {
		return nil, err
	}
	return v.proto(), nil
}

// ListCryptoKeyVersions implements [kmspb.KeyManagementServiceServer]. The newest version
// comes first.
func (s *service) ListCryptoKeyVersions(_ context.Context, req *kmspb.ListCryptoKeyVersionsRequest) (*kmspb.ListCryptoKeyVersionsResponse, error) {
	if req.GetFilter() != "" || req.GetOrderBy() != "" {
		return nil, status.Error(codes.Unimplemented, "gcpkmstest does not filter or sort.")
	}

	k, err := s.server.keyOf(req.GetParent())
	if err != nil {
		return nil, err
	}

	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	size := s.server.pageSize
	if n := int(req.GetPageSize()); n > 0 {
		size = min(size, n)
	}

	start := 0
	if token := req.GetPageToken(); token != "" {
		if start, err = strconv.Atoi(token); err != nil || start < 0 {
			return nil, status.Error(codes.InvalidArgument, "Invalid page token.")
		}
	}

	resp := &kmspb.ListCryptoKeyVersionsResponse{TotalSize: int32(len(k.versions))} // #nosec G115 -- far fewer
	for i := start; i < len(k.versions) && i < start+size; i++ {
		resp.CryptoKeyVersions = append(resp.CryptoKeyVersions, k.versions[len(k.versions)-1-i].proto())
	}
	if start+size < len(k.versions) {
		resp.NextPageToken = strconv.Itoa(start + size)
	}
	return resp, nil
}
