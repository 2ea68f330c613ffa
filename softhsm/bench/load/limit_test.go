//go:build linux && cgo

package load

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"io"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
	"signetd/softhsm/bench/report"
)

// limitJob builds the limit and makes a key for it.
func limitJob(t *testing.T, alg string) (program string, token *softhsm.Token, j Job) {
	t.Helper()
	token = softhsm.New(t)
	typ := map[string]provision.KeyType{"ES256": provision.ECP256, "EdDSA": provision.Ed25519}[alg]
	if typ == "" {
		typ = provision.RSA2048
	}
	token.Generate(t, "key", typ, signer.Alg(alg).Use())
	program, err := BuildLimit(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return program, token, Job{Module: token.Module(), Token: token.Label(), PIN: token.PIN(), Key: "key", Alg: alg, Socket: filepath.Join(t.TempDir(), "s")}
}

// The limit does the work of each algorithm, with fewer clients than connections and with
// more.
func TestLimit(t *testing.T) {
	for _, alg := range append([]string{report.OAEP}, report.SignAlgs...) {
		t.Run(alg, func(t *testing.T) {
			program, token, j := limitJob(t, alg)
			w, err := StartLimit(t.Context(), program, []string{"SOFTHSM2_CONF=" + token.Conf()}, j)
			if err != nil {
				t.Fatal(err)
			}
			for _, clients := range []int{1, 3, 64, 1000} {
				s, err := w.Slice(clients, 20*time.Millisecond)
				if err != nil {
					t.Fatalf("%d clients: %v", clients, err)
				}
				if s.Ops < clients || s.Errors != 0 || s.P50 <= 0 || s.P99 < s.P50 || s.User+s.System <= 0 {
					t.Errorf("%d clients: %+v", clients, s)
				}
			}
			if err := w.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The limit's server answers with signatures over what it was sent, also when a frame
// comes in pieces.
func TestLimitSigns(t *testing.T) {
	program, token, j := limitJob(t, "ES256")
	cmd := exec.CommandContext(t.Context(), program, "server", j.Socket, j.Alg, j.Module, j.Token, j.PIN, j.Key)
	server, err := StartCommand("limit server", cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.kill(); err != nil {
			t.Error(err)
		}
	}()
	conn, err := net.Dial("unix", j.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	digest := sha256.Sum256([]byte("message"))
	frame := append([]byte("tag of 8"), digest[:]...)
	for _, part := range [][]byte{frame[:5], append(bytes.Clone(frame[5:]), frame...)} {
		if _, err := conn.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	answers := make([]byte, 2*(8+64))
	if _, err := io.ReadFull(conn, answers); err != nil {
		t.Fatal(err)
	}

	backend, err := pkcs11.Open(t.Context(), token.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = backend.Close() })
	opened, err := backend.OpenKey(t.Context(), "pkcs11:object=key")
	if err != nil {
		t.Fatal(err)
	}
	key, ok := opened.Public().(*ecdsa.PublicKey)
	if !ok {
		t.Fatalf("the key is a %T", opened.Public())
	}
	for _, answer := range [][]byte{answers[:72], answers[72:]} {
		if string(answer[:8]) != "tag of 8" {
			t.Errorf("the answer begins with %q", answer[:8])
		}
		if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(answer[8:40]), new(big.Int).SetBytes(answer[40:])) {
			t.Error("the signature does not verify")
		}
	}
}

func TestBuildLimitFails(t *testing.T) {
	t.Setenv("CC", "false")
	if _, err := BuildLimit(t.TempDir()); err == nil {
		t.Error("a compiler that failed built the limit")
	}
}
