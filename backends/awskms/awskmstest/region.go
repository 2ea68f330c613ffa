package awskmstest

import (
	"fmt"
	"strings"
)

// multiRegion is the prefix of the ids of multi-Region keys.
const multiRegion = "mrk-"

// CreateMultiRegionKey is [Server.CreateKey] for a multi-Region primary key: its
// replicas in other regions have its id and its key material.
func (s *Server) CreateMultiRegionKey(keySpec, keyUsage string) (arn string) {
	k, err := s.newKey(keySpec, keyUsage)
	if err != nil {
		panic("awskmstest: " + err.Error())
	}
	return s.keep(k, multiRegion+strings.ReplaceAll(k.id, "-", ""))
}

// Replicate makes a replica of a multi-Region key of s in another region, and returns
// its ARN. It panics if s has no such key.
func (s *Server) Replicate(arn string, to *Server) string {
	k := s.find(arn)
	if k == nil || !strings.HasPrefix(k.id, multiRegion) {
		panic("awskmstest: no multi-Region key " + arn)
	}
	s.mu.Lock()
	replica := *k
	s.mu.Unlock()
	return to.keep(&replica, k.id)
}

// keep adds k to the server under an id, with the ARN of that id in its region.
func (s *Server) keep(k *key, id string) (arn string) {
	k.id = id
	k.arn = fmt.Sprintf("arn:aws:kms:%s:%s:key/%s", s.config.Region, s.config.Account, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[id] = k
	return k.arn
}
