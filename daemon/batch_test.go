package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/signer"
)

// records reads the audit log of f.
func (f *fixture) records(t testing.TB) (list []audit.Record) {
	t.Helper()
	data, err := os.ReadFile(f.audit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var r audit.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

// TestBatch has items that succeed, that are refused and that are malformed: the
// answers are in order, and each has its record.
func TestBatch(t *testing.T) {
	f := serve(t, Limits{})
	const secret = "hunter2-hunter2"
	items := []struct{ body, code string }{
		{`{"key":"oidc","claims":{"aud":"api","n":0}}`, ""},
		{`{"key":"nothing","claims":{}}`, "denied"},
		{`{"key":"oidc","claims":{"aud":"api","n":2}}`, ""},
		{`{"key":"oidc","claims":{"aud":"` + secret + `"}}`, "denied"},
		{`{"key":"oidc","password":"` + secret + `"}`, "invalid"},
		{`"` + secret + `"`, "invalid"},
		{`{"batch":[{"key":"oidc","claims":{"aud":"api"}}]}`, "invalid"},
		{`{"key":"oidc","claims":{"aud":"api","n":7}}`, ""},
	}
	var bodies []string
	for _, it := range items {
		bodies = append(bodies, it.body)
	}
	status, answer := f.do(t, "POST", api.SignJWT.Path, `{"batch":[`+strings.Join(bodies, ",")+`]}`)
	if status != http.StatusOK || strings.Contains(answer, secret) {
		t.Fatalf("status %d %s, want 200 and nothing of the request", status, answer)
	}
	var got api.Results[struct {
		Token string
		Error *api.Error
	}]
	if err := json.Unmarshal([]byte(answer), &got); err != nil || len(got.Results) != len(items) {
		t.Fatalf("%s: %v, want %d results", answer, err, len(items))
	}
	byItem := map[int]audit.Record{}
	for _, r := range f.records(t) {
		byItem[r.Item] = r
	}
	for i, it := range items {
		r, rec := got.Results[i], byItem[i+1]
		if it.code == "" {
			token, err := signer.ParseSigned(r.Token)
			if err != nil || r.Error != nil || !strings.Contains(payload(t, r.Token), fmt.Sprintf(`"n":%d`, i)) || rec.Outcome != "ok" || rec.Digest != inRecord(token.Digest) {
				t.Errorf("item %d = %+v, %v; record %+v", i, r, err, rec)
			}
			continue
		}
		if r.Error == nil || r.Error.Code != it.code || rec.Outcome != it.code || rec.Request != r.Error.RequestID || r.Token != "" {
			t.Errorf("item %d = %+v, want the error %s; record %+v", i, r, it.code, rec)
		}
	}
	if len(byItem) != len(items) {
		t.Errorf("%d records, want one for each of %d items", len(byItem), len(items))
	}
}

func payload(t *testing.T, token string) string {
	t.Helper()
	var p api.Bytes
	if err := p.UnmarshalText([]byte(strings.Split(token, ".")[1])); err != nil {
		t.Fatal(err)
	}
	return string(p)
}

// TestBatchRefused: a malformed batch is one refusal with one record.
func TestBatchRefused(t *testing.T) {
	f := serve(t, Limits{Batch: 3})
	const item = `{"key":"oidc","claims":{"aud":"api"}}`
	for name, body := range map[string]string{
		"empty": `{"batch":[]}`, "null": `{"batch":null}`, "an object": `{"batch":{"0":` + item + `}}`, "a string": `{"batch":"x"}`,
		"too many":        `{"batch":[` + strings.Repeat(item+",", 3) + item + `]}`,
		"something more":  `{"batch":[` + item + `],"key":"oidc"}`,
		"twice":           `{"batch":[` + item + `],"batch":[` + item + `]}`,
		"cut short":       `{"batch":[` + item,
		"a member twice":  `{"batch":[{"key":"oidc","key":"oidc"}]}`,
		"an array itself": `[` + item + `]`,
	} {
		if status, answer := f.do(t, "POST", api.SignJWT.Path, body); status != http.StatusBadRequest || errorCode(t, answer) != "invalid" {
			t.Errorf("%s: status %d %s, want 400 invalid", name, status, answer)
		}
	}
	if n := len(f.records(t)); n != 10 {
		t.Errorf("%d records, want one for each of 10 bodies", n)
	}
	if status, answer := f.do(t, "POST", api.SignJWT.Path, `{"batch":[`+item+`,`+item+`,`+item+`]}`); status != http.StatusOK || strings.Count(answer, `"token"`) != 3 {
		t.Errorf("a batch as large as the limit = %d %s", status, answer)
	}
}

// TestBatchBounds: no more items run at a time than half of the user's places, and
// what has not begun at the deadline is told so.
func TestBatchBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Limits{PerPeer: 6, Timeout: 5 * time.Second}.WithDefaults()
		s := &Service{admission: newAdmission(limits), limits: limits}
		var running, most atomic.Int32
		b := newBatch(10)
		start := time.Now()
		b.perform = func(ctx context.Context, _ Request, _ int) (any, *record, error) {
			place, err := s.admission.acquire(ctx, 1)
			if err != nil {
				return nil, nil, err
			}
			defer s.admission.release(1, place)
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			select {
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
			return "done", nil, nil
		}
		s.run(t.Context(), &Request{}, b)
		if most.Load() != 3 {
			t.Errorf("%d items ran at a time, want 3", most.Load())
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("the batch took %s, want the time limit of one request", took)
		}
		for i, result := range b.results {
			e, refused := result.(api.ErrorResponse)
			if late := i >= 6; late != (refused && e.Error.Code == "deadline") {
				t.Errorf("item %d = %v; want the first 6 done, and the deadline for the others", i, result)
			}
		}
	})
}

// TestBatchBrake: each refused item counts.
func TestBatchBrake(t *testing.T) {
	f := serve(t, Limits{Timeout: 300 * time.Millisecond, Refusals: 1})
	body := `{"batch":[` + strings.Repeat(`{"key":"x"},`, 63) + `{"key":"x"}]}`
	for range refusalBurst / 64 { // within the burst
		if status, answer := f.do(t, "POST", api.SignDigest.Path, body); status != http.StatusOK {
			t.Fatalf("status %d %s", status, answer)
		}
	}
	start := time.Now()
	if status, answer := f.do(t, "POST", api.SignDigest.Path, body); status != http.StatusOK || time.Since(start) < 140*time.Millisecond {
		t.Errorf("after %d refusals a batch is refused in %s: status %d %s", refusalBurst, time.Since(start), status, answer)
	}
}

// FuzzBatch: whatever the body, every item has one result and one record, and
// nothing is answered that was not decoded strictly.
func FuzzBatch(f *testing.F) {
	for _, s := range []string{
		`{"batch":[{"key":"notes","payload":"AA"},{"key":"notes"}]}`, `{"batch":[]}`, `{"batch":[1,"x",null,{"batch":[]}]}`, `{"batch":null}`,
		`{"key":"notes","batch":[{}]}`, `{"key":"notes","payload":"AA"}`, `{"batch":[{"key":"notes","payload":"AA="}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		one, items, err := decodeOneOrMany[api.SignJWSRequest](data, 64)
		var lax struct{ Batch []json.RawMessage }
		switch {
		case err != nil:
			if !errors.Is(err, signer.ErrInvalid) || one != nil || items != nil {
				t.Fatalf("decodeOneOrMany(%q) = %v, %v, %v; want ErrInvalid and nothing else", data, one, items, err)
			}
		case one != nil:
			if json.Unmarshal(data, &lax) != nil || lax.Batch != nil {
				t.Fatalf("decodeOneOrMany(%q) finds one request, package json a batch of %d", data, len(lax.Batch))
			}
		default:
			if json.Unmarshal(data, &lax) != nil || len(lax.Batch) != len(items) {
				t.Fatalf("decodeOneOrMany(%q) finds %d items, package json %d", data, len(items), len(lax.Batch))
			}
		}
	})
}

// TestBatchRequestReused: a transport uses a request again once it is answered, also while
// the timer that begins more workers goes off. Only the race detector sees it if not.
func TestBatchRequestReused(t *testing.T) {
	f := serve(t, Limits{})
	synctest.Test(t, func(t *testing.T) {
		var q Request
		for range 300 {
			q = f.service.Begin(me())
			b := newBatch(firstWorkers + 1)
			b.perform = func(_ context.Context, _ Request, i int) (any, *record, error) {
				if i < firstWorkers {
					time.Sleep(moreAfter)
				}
				return nil, nil, nil
			}
			f.service.run(t.Context(), &q, b)
		}
	})
}

// TestBatchPanic: what goes wrong with one item ends neither the process nor the
// others, and has its record.
func TestBatchPanic(t *testing.T) {
	f := serve(t, Limits{})
	op := operation[api.SignMACRequest, api.SignMACResponse]{
		Endpoint: api.SignMAC,
		access: access[api.SignMACRequest]{
			grant: func(a *applicant, q *api.SignMACRequest) (string, error) {
				return q.Key, a.mayAny(api.OpSignJWT)
			},
			key: func(q *api.SignMACRequest) string {
				if q.Key == "bad" {
					panic("of a library") // outside of what guarded recovers from, as in a decoder
				}
				return q.Key
			},
		},
		act: func(_ context.Context, _ *call, q *api.SignMACRequest) (*api.SignMACResponse, error) {
			return &api.SignMACResponse{KID: q.Key}, nil
		},
	}
	items := []jsontext.Value{jsontext.Value(`{"key":"a"}`), jsontext.Value(`{"key":"bad"}`), jsontext.Value(`{"key":"b"}`)}
	q := f.service.Begin(me())
	r := performBatch(t.Context(), f.service, &q, &op, items)
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	var got api.Results[struct {
		KID   string
		Error *api.Error
	}]
	if err := json.Unmarshal(r.Body, &got); err != nil || len(got.Results) != 3 {
		t.Fatalf("%s: %v", r.Body, err)
	}
	if got.Results[0].KID != "a" || got.Results[2].KID != "b" {
		t.Errorf("the other items: %s", r.Body)
	}
	if e := got.Results[1].Error; e == nil || e.Code != signer.CodeInternal || strings.Contains(e.Message, "library") {
		t.Errorf("result 1 is %+v, want an internal error without its reason", e)
	}
	outcomes := map[int]string{}
	for _, rec := range f.records(t) {
		outcomes[rec.Item] = rec.Op + " " + rec.Outcome
	}
	if want := map[int]string{1: "mac-sign ok", 2: "mac-sign internal", 3: "mac-sign ok"}; !maps.Equal(outcomes, want) {
		t.Errorf("the audit log has %v, want %v", outcomes, want)
	}
}
