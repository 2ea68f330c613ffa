//go:build cgo

package pkcs11

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"sync"
	"time"

	"signetd/signer"
)

// proveAlg uses the key once with alg and checks the answer with the public key.
func proveAlg(ctx context.Context, k signer.Key, alg signer.Alg) error {
	v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{alg}})
	if err != nil {
		return err
	}
	return v.Prove(ctx)
}

// Bounds of a measurement: whichever comes first.
const (
	measureFor = 300 * time.Millisecond
	measureMax = 1000 // operations
)

// inFlight is how many operations at once are measured.
var inFlight = []int{1, 8}

// measureAlg measures the token's part of alg, without what the daemon does
// around it. It returns what it has when an operation fails: the proof came out
// right a moment ago, and a report of latencies is no place for that.
func measureAlg(ctx context.Context, k signer.Key, alg signer.Alg) []Latency {
	operate, err := operation(k, alg)
	if err != nil {
		return nil
	}
	var out []Latency
	for _, n := range inFlight {
		took := runFor(ctx, n, operate)
		if len(took) == 0 {
			break
		}
		slices.Sort(took)
		out = append(out, Latency{n, len(took), took[len(took)/2], took[len(took)*99/100]})
	}
	return out
}

// operation returns what to measure.
func operation(k signer.Key, alg signer.Alg) (func(context.Context) error, error) {
	if s, ok := k.(signer.Signer); ok && alg.Use() == signer.UseSig {
		digest := make([]byte, alg.Hash().Size())
		rand.Read(digest)
		return func(ctx context.Context) error {
			_, err := s.SignContext(ctx, digest, alg.SignerOpts())
			return err
		}, nil
	}
	d, opens := k.(signer.Decrypter)
	pub, isRSA := k.Public().(*rsa.PublicKey)
	if !opens || !isRSA || alg.Family() != signer.FamilyOAEP {
		return nil, fmt.Errorf("%w: %s is not measured", signer.ErrUnsupported, alg)
	}
	cek := make([]byte, 32)
	rand.Read(cek)
	ciphertext, err := rsa.EncryptOAEPWithOptions(rand.Reader, pub, cek, alg.DecrypterOpts())
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		out, err := d.DecryptContext(ctx, ciphertext, alg.DecrypterOpts())
		clear(out)
		return err
	}, nil
}

// runFor keeps n operations in flight within the bounds, and returns how long
// each took that came out right.
func runFor(ctx context.Context, n int, operate func(context.Context) error) []time.Duration {
	var (
		mu   sync.Mutex
		took []time.Duration
		all  sync.WaitGroup
	)
	end := time.Now().Add(measureFor)
	for range n {
		all.Go(func() { // a goroutine; ends within the bounds, or when an operation fails
			for range measureMax / n {
				start := time.Now()
				if start.After(end) || operate(ctx) != nil {
					return
				}
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return took
}
