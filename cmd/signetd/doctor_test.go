package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"signetd/backends/pkcs11"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestDoctorText prints the reports that the tests of package pkcs11 make.
func TestDoctorText(t *testing.T) {
	const reports = "../../backends/pkcs11/testdata/doctor"
	files, err := filepath.Glob(filepath.Join(reports, "*.golden"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no reports in %s: %v", reports, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".golden"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			r := pkcs11.Report{Backend: "hsm"}
			dec := json.NewDecoder(bytes.NewReader(data))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&r); err != nil {
				t.Fatal(err)
			}

			e := examination{UID: 999, Verdict: pkcs11.OK}
			e.add(r)
			var got bytes.Buffer
			if err := writeExamination(&got, e); err != nil {
				t.Fatal(err)
			}
			goldenText(t, filepath.Join("testdata", "doctor", filepath.Base(file)), got.String())
		})
	}
}

func goldenText(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", path, d)
	}
}
