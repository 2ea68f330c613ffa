//go:build cgo

package pkcs11

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"signetd/signer"
)

// proveAlg uses the key once with alg and checks the answer with the public key.
func proveAlg(ctx context.Context, k signer.Key, alg signer.Alg) error {
	v, err := signer.NewVersion(k, signer.VersionConfig{KID: "doctor", Algs: []signer.Alg{alg}})
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

// measureAlg measures alg without what the daemon does around it. It returns what it has when an operation fails: the proof came out
// right a moment ago, and a report of latencies is no place for that.
func measureAlg(ctx context.Context, k signer.Key, alg signer.Alg) []Latency {
	operate, err := operation(ctx, k, alg)
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

// operation returns what to measure: the signature of a message, its MAC, or the
// opening of a JWE.
func operation(ctx context.Context, k signer.Key, alg signer.Alg) (func(context.Context) error, error) {
	v, err := signer.NewVersion(k, signer.VersionConfig{KID: "doctor", Algs: []signer.Alg{alg}, SkipVerify: true})
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	if alg.Use() == signer.UseSig {
		return func(ctx context.Context) error {
			_, err := v.SignMessage(ctx, alg, secret)
			return err
		}, nil
	}
	enc := "" // the default
	if key, ok := k.Public().(signer.Secret); ok && alg == signer.Dir {
		enc = fmt.Sprintf("A%dGCM", 8*key.Size)
	}
	jwe, err := v.EncryptJWE(ctx, enc, signer.Header{}, secret)
	if err != nil {
		return nil, err
	}
	sealed, err := signer.ParseSealed(jwe)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		plaintext, err := v.DecryptJWE(ctx, sealed, sealed.Recipients[0])
		clear(plaintext)
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
