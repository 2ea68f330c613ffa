//go:build cgo

package interop_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"signetd/daemon/api"
	"signetd/signer"
)

// mutants is the number of mutated JWEs of each alg.
const mutants = 10_000

var requestID = regexp.MustCompile(`"request_id":"[0-9a-f]{16}"`)

// Every mutated JWE gets the same answer, byte for byte, but for the request id: status,
// body, and names and values of the headers. Nine of ten are sent in batches, which is
// faster; for these the body is compared.
func TestMutatedJWE(t *testing.T) {
	for backend, make := range makers {
		n := mutants
		if testing.Short() {
			n /= 100
		}
		t.Run(backend, func(t *testing.T) {
			tools := append(sealers(t), tool{newKey("RSA1_5", rsaJWK(t), signer.RSA15), signer.RSA15, allEncs})
			var keys []key
			for _, x := range tools {
				keys = append(keys, x.key)
			}
			d := make(t, keys...)
			want := refusal(t, d.client, "no JWE at all") // the answer that all others must equal

			rows := [][]string{{"alg", "mutants", "answers"}}
			for _, x := range tools {
				if strings.HasSuffix(x.kid, " P-384") || strings.HasSuffix(x.kid, " P-521") {
					continue // the alg is tested with P-256
				}
				others := 0
				for _, got := range d.refusals(t, spoil(t, d, x, n)) {
					if got != want && !strings.HasSuffix(want, "\n"+got+"\n") {
						others++
						if others < 4 {
							t.Errorf("%s: %q, want %q", x.kid, got, want)
						}
					}
				}
				rows = append(rows, []string{x.kid, strconv.Itoa(n), strconv.Itoa(1+others) + " distinct"})
			}

			table(t, "mutated JWEs over "+backend+": "+want, rows)
		})
	}
}

// refusal returns the whole answer to a JWE, without the request id and the date.
func refusal(t testing.TB, c *http.Client, jwe string) string {
	t.Helper()
	resp, err := c.Post("http://signetd"+api.DecryptJWE.Path, "application/json", bytes.NewReader(encode(t, api.DecryptJWERequest{JWE: jwe})))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()

	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Error(err)
	}
	resp.Header.Del("Request-Id")
	resp.Header.Del("Date")
	var head bytes.Buffer

	if err := resp.Header.Write(&head); err != nil {
		t.Error(err)
	}
	return resp.Status + "\n" + head.String() + string(requestID.ReplaceAll(body.Bytes(), []byte(`"request_id":""`)))
}

// refusals sends each tenth JWE by itself, and the others in batches, of which it returns
// the bodies only.
func (d *daemon) refusals(t testing.TB, jwes []string) []string {
	t.Helper()
	const most = 64 // in one batch
	var asks []func() []string
	var batch []api.DecryptJWERequest
	for i, jwe := range jwes {
		if i%10 == 0 {
			asks = append(asks, func() []string { return []string{refusal(t, d.plain, jwe)} })
		} else {
			batch = append(batch, api.DecryptJWERequest{JWE: jwe})
		}
	}
	for several := range slices.Chunk(batch, most) {
		asks = append(asks, func() []string { return d.batch(t, several) })
	}

	got := make([][]string, len(asks))
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() { // ends when its share is done
			for i := worker; i < len(asks); i += 4 {
				got[i] = asks[i]()
			}
		})
	}

	wg.Wait()
	all := slices.Concat(got...)
	if len(all) != len(jwes) {
		t.Errorf("%d answers to %d requests", len(all), len(jwes))
	}
	return all
}

// batch returns the bodies of the answers to a batch.
func (d *daemon) batch(t testing.TB, q []api.DecryptJWERequest) (bodies []string) {
	t.Helper()
	resp, err := d.plain.Post("http://signetd"+api.DecryptJWE.Path, "application/json", bytes.NewReader(encode(t, api.Batch[api.DecryptJWERequest]{Batch: q})))
	if err != nil {
		t.Error(err)
		return nil
	}
	defer resp.Body.Close()

	var a api.Results[json.RawMessage]
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("batch: %s, %v", resp.Status, err)
	}
	for _, one := range a.Results {
		bodies = append(bodies, string(requestID.ReplaceAll(one, []byte(`"request_id":""`))))
	}
	return bodies
}

// spoil makes n JWEs that must not open, from good ones with each enc, in compact and in
// JSON form.
func spoil(t testing.TB, d *daemon, x tool, n int) []string {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(n))) // #nosec G404 -- to be the same in each run
	var good []string
	if x.alg == signer.RSA15 { // the daemon encrypts no JWE with RSA1_5
		for _, sealed := range goJose(t, sealJobs([]tool{x}, func(int) string { return envelope })) {
			good = append(good, sealed.Output)
		}
	} else {
		for _, j := range openJobs(t, d, []tool{x}) {
			good = append(good, j.Input)
		}
	}

	for _, jwe := range good {
		if got, err := d.open(t, jwe); err != nil || got != envelope {
			t.Errorf("%s: before anything is changed: %q, %v", x.kid, got, err)
		}
	}
	var list []string
	for i := range n {
		parts := strings.Split(good[i/3%len(good)], ".")
		if i%3 == 0 {
			list = append(list, mutantJSON(t, r, parts))
			continue
		}
		list = append(list, mutant(r, parts))
	}

	return list
}

// mutantJSON returns the flattened serialization with one member changed or removed.
func mutantJSON(t testing.TB, r *rand.Rand, parts []string) string {
	t.Helper()
	o := map[string]string{}
	for i, name := range []string{"protected", "encrypted_key", "iv", "ciphertext", "tag"} {
		if parts[i] != "" { // dir and ECDH-ES have no encrypted key
			o[name] = parts[i]
		}
	}

	names := slices.Sorted(maps.Keys(o))
	name := names[r.IntN(len(names))]
	if r.IntN(8) == 0 {
		delete(o, name)
	} else {
		o[name] = mutate(r, o[name])
	}
	return string(encode(t, o))
}

// mutant returns the compact serialization with one change.
func mutant(r *rand.Rand, parts []string) string {
	switch r.IntN(12) {
	case 0: // swap two parts
		i, j := r.IntN(5), r.IntN(5)
		if parts[i] == parts[j] {
			i, j = 0, 4
		}
		parts[i], parts[j] = parts[j], parts[i]
	case 1: // remove or add a part
		i := r.IntN(5)
		parts = slices.Delete(parts, i, i+1)
	case 2:
		parts = slices.Insert(parts, r.IntN(6), "AAAA")
	default:
		i := r.IntN(5)
		for parts[i] == "" {
			i = r.IntN(5)
		}
		parts[i] = mutate(r, parts[i])
	}

	return strings.Join(parts, ".")
}

// mutate changes base64url text, or the bytes that it encodes.
func mutate(r *rand.Rand, text string) string {
	data, err := b64decode(text)
	if err != nil || len(data) == 0 {
		return text + "AA"
	}
	switch r.IntN(10) {
	case 0:
		data = data[:r.IntN(len(data))]
	case 1:
		data = append(data, make([]byte, 1+r.IntN(32))...)
	case 2:
		for i := range data {
			data[i] ^= 0xff
		}
	case 3:
		return text + "="
	case 4:
		return strings.Replace(text, text[:1], "+", 1)
	case 5:
		return text[:len(text)/2] + "\n" + text[len(text)/2:]
	default:
		for range 1 + r.IntN(3) {
			data[r.IntN(len(data))] ^= byte(1 + r.IntN(255)) // #nosec G115 -- below 256
		}
		if got, _ := b64decode(text); bytes.Equal(got, data) { // two changes that cancel each other
			data[0] ^= 1
		}
	}

	return b64(data)
}
