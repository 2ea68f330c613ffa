package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/client"
)

// The number of issuers, and the pause of each between two tokens.
const (
	issuers = 4
	rest    = 5 * time.Millisecond
)

// signers are issuers that sign until they are stopped.
type signers struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	tokens map[string][]string // by kid
	err    error               // the first error
}

func startSigners(ctx context.Context, c *client.Client, claims []byte) *signers {
	ctx, cancel := context.WithCancel(ctx)
	s := &signers{cancel: cancel, tokens: map[string][]string{}}
	for range issuers {
		s.running.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				s.note(c.SignJWT(context.WithoutCancel(ctx), api.SignJWTRequest{Key: "oidc", Claims: claims}))
				time.Sleep(rest)
			}
		})
	}
	return s
}

func (s *signers) note(signed *api.SignJWTResponse, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.tokens[signed.KID] = append(s.tokens[signed.KID], signed.Token)
	case s.err == nil:
		s.err = fmt.Errorf("an issuer got no token: %w", err)
	}
}

// count returns the number of tokens that a version signed.
func (s *signers) count(kid string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tokens[kid])
}

// wait waits until a version has signed n tokens.
func (s *signers) wait(ctx context.Context, kid string, n int) error {
	for late := time.Now().Add(time.Minute); s.count(kid) < n; time.Sleep(rest) {
		s.mu.Lock()
		err := s.err
		s.mu.Unlock()
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(late):
			return fmt.Errorf("kid %s signed %d tokens in a minute, want %d", kid, s.count(kid), n)
		}
	}

	return nil
}

// stop ends the issuers and returns the first error that one of them got.
func (s *signers) stop() error {
	s.cancel()
	s.running.Wait()
	return s.err
}

// failed stops the issuers, and joins their error to err.
func (s *signers) failed(err error) error { return errors.Join(err, s.stop()) }
