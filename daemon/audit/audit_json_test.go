package audit

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestEncodeFields sets each field of a record alone, and all of them: one that the
// encoder does not know is missing from what it writes.
func TestEncodeFields(t *testing.T) {
	var all Record
	for i := range reflect.TypeFor[Record]().NumField() {
		var one Record
		fill(t, reflect.ValueOf(&one).Elem().Field(i))
		fill(t, reflect.ValueOf(&all).Elem().Field(i))
		checkEncoding(t, &one)
	}
	checkEncoding(t, &all)
	checkEncoding(t, &Record{})
}

// fill gives v, and each field and element in it, a value that is not zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(1_800_000_000, 123_456_000).UTC()))
		return
	}
	switch v.Kind() { //nolint:exhaustive // the others fail
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(-7)
	case reflect.Uint32:
		v.SetUint(7)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0)) // the other one has fields that are left out
	default:
		t.Fatalf("a field of type %s: say how it is written", v.Type())
	}
}

func checkEncoding(t *testing.T, r *Record) {
	t.Helper()
	want, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.appendJSON([]byte("before ")); string(got) != "before "+string(want) {
		t.Errorf("appendJSON() =\n%s\nwant what encoding/json has:\n%s", got, want)
	}
}

// FuzzRecord holds the encoder and encoding/json together.
func FuzzRecord(f *testing.F) {
	f.Add("plain", int64(1), int64(0), 1)
	f.Add("<a href=\"x\">&</a>\\\u2028\u2029\x7f\x00\x1f\b\f\n\r\t", int64(-1), int64(999_999_999), 0)
	f.Add("\xff\xc3\x28 é 漢 \U0001F600 \xed\xa0\x80", int64(253_402_300_799), int64(1), -1)
	f.Fuzz(func(t *testing.T, text string, seconds, nanos int64, item int) {
		at := time.Unix(seconds, nanos)
		if y := at.UTC().Year(); y < 1 || y > 9998 {
			at = time.Unix(0, 0)
		}
		for _, zone := range []*time.Location{time.UTC, time.FixedZone("", -12345), time.FixedZone("", item%86400)} {
			checkEncoding(t, &Record{
				Time: at.In(zone), Request: text, Item: item, Peer: Peer{UID: uint32(item), GID: uint32(seconds), PID: int32(nanos)}, Op: text, Key: text, KID: text,
				Alg: text, Outcome: text, Reason: text, Rule: text, JTI: text, Exp: seconds, Digest: text, Object: text, To: text, SignedBy: text,
				WouldDeny: []Denial{{Rule: text, Claim: text}, {Rule: text}},
			})
		}
	})
}

// TestEncodeYears holds that no time keeps a record from being written.
func TestEncodeYears(t *testing.T) {
	for _, year := range []int{-1, 10_000} {
		r := Record{Time: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC), Request: "r"}
		if line := string(r.appendJSON(nil)); !json.Valid([]byte(line)) || !strings.Contains(line, `"request":"r"`) {
			t.Errorf("year %d: the record is %s", year, line)
		}
	}
}

// BenchmarkWrite is a record of usual size, left to the kernel.
func BenchmarkWrite(b *testing.B) {
	l, err := Open(filepath.Join(b.TempDir(), "audit.jsonl"), SyncNever)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	r := &Record{
		Time: time.Unix(1_800_000_000, 123_456_789).UTC(), Request: "0123456789abcdef", Peer: Peer{UID: 1000, GID: 1000, PID: 12345}, Op: "sign-jwt",
		Key: "oidc", KID: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", Alg: "ES256", Outcome: "ok", JTI: "0123456789abcdefghijkl", Exp: 1_800_000_900,
		Digest: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Write(r); err != nil {
			b.Fatal(err)
		}
	}
}
