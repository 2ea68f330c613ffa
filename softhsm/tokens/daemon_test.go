//go:build linux && cgo

package tokens_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/provision"
	"signetd/daemon/api"
	"signetd/signer"
	"signetd/softhsm"
	"signetd/softhsm/faultp11"
	"signetd/softhsm/tokens"
)

// A daemon is a signetd that signs RS256 with the key notes of a token.
type daemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    said
	exited chan struct{}
	client http.Client
}

// said holds what a process has printed.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// startDaemon starts a signetd whose token is behind module.
func startDaemon(t *testing.T, token *tokens.Token, module string) *daemon {
	t.Helper()
	bin, err := softhsm.Signetd()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sd") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config, socket := filepath.Join(dir, "signetd.yaml"), filepath.Join(dir, "s")
	text := fmt.Sprintf(`
socket: {path: %q, mode: "0600"}
audit: {path: %q, sync: never}
limits: {timeout: 2s}
backends: [{name: hsm, pkcs11: {module: %q, token: %q, pin_file: %q, sessions: 2}}]
keys: [{name: notes, use: sig, algs: [RS256], versions: [{backend: hsm, ref: "pkcs11:object=sig"}]}]
grants: [{peer: {user: %d}, ops: [sign-jws], keys: [notes]}]
`, socket, filepath.Join(dir, "audit.jsonl"), module, token.Config().Token, token.PINFile(), os.Getuid())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, cmd: exec.Command(bin, "serve", "--config", config), exited: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	d.client = http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}}}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which the cleanup ends
		_ = d.cmd.Wait()
		close(d.exited)
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.exited:
		case <-time.After(30 * time.Second):
			_ = d.cmd.Process.Kill()
			t.Error("it does not end")
		}
	})
	return d
}

// sign requests a signature, and returns the status and the body of the answer.
func (d *daemon) sign() (status int, body string) {
	resp, err := d.client.Post("http://signetd"+api.SignJWS.Path, "application/json", strings.NewReader(`{"key":"notes","payload":"AAAA"}`))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(data)
}

// await waits until the daemon answers with status.
func (d *daemon) await(status int) {
	d.t.Helper()
	err := until(d.t, func() error {
		select {
		case <-d.exited:
			d.t.Fatalf("it has ended: %s", d.log.String())
		default:
		}
		if got, body := d.sign(); got != status {
			return fmt.Errorf("%d %s, want %d", got, body, status)
		}
		return nil
	})
	if err != nil {
		d.t.Fatalf("%v\n%s", err, d.log.String())
	}
}

// TestDaemonWrongPIN has a daemon lose a token that locks at the third wrong PIN, while the
// PIN file holds a wrong one. Under load for seconds the daemon shows that PIN once, and
// says which file to correct. With the right PIN in that file it serves again, in the same
// process.
func TestDaemonWrongPIN(t *testing.T) {
	if !runAlone(t) {
		return
	}
	token := tokens.NewOpencryptoki(t)
	token.Generate(t, "sig", provision.RSA2048, signer.UseSig)
	f := faultp11.New(t, token.Module())
	d := startDaemon(t, token, f.Module())
	d.await(http.StatusOK)
	if n := f.Count("C_Login").Calls; n != 1 {
		t.Fatalf("%d logins at start, want 1", n)
	}

	const wrong = "19283746"
	writePIN(t, token, wrong)
	f.Inject("* * rv=CKR_DEVICE_REMOVED until=C_Initialize") // so that it logs in anew
	d.await(http.StatusServiceUnavailable)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if status, body := d.sign(); status != http.StatusServiceUnavailable || strings.Contains(body, wrong) {
			t.Fatalf("with a wrong PIN in the file: %d %s", status, body)
		}
	}
	if n := f.Count("C_Login"); n.Calls != 2 || n.Failed != 1 {
		t.Errorf("C_Login: %+v, want one more, which fails", n)
	}
	checkPINState(t, token)
	if log := d.log.String(); !strings.Contains(log, token.PINFile()) || strings.Contains(log, wrong) || strings.Contains(log, token.PIN()) {
		t.Errorf("the log does not name the file alone: %s", log)
	}

	pid := d.cmd.Process.Pid
	writePIN(t, token, token.PIN())
	d.await(http.StatusOK)
	if n := f.Count("C_Login"); n.Calls != 3 || n.Failed != 1 || d.cmd.Process.Pid != pid {
		t.Errorf("C_Login: %+v, want one for each PIN", n)
	}
}

// TestDaemonWrongPINAtStart starts a daemon with a wrong PIN. It can serve nothing, so it says
// which file to correct and ends, with the exit status after which systemd does not restart
// it: restarts would lock the token.
func TestDaemonWrongPINAtStart(t *testing.T) {
	if !runAlone(t) {
		return
	}
	token := tokens.NewOpencryptoki(t)
	token.Generate(t, "sig", provision.RSA2048, signer.UseSig)
	f := faultp11.New(t, token.Module())
	const wrong = "19283746"
	writePIN(t, token, wrong)
	d := startDaemon(t, token, f.Module())
	select {
	case <-d.exited:
	case <-time.After(20 * time.Second):
		t.Fatal("it serves without a PIN")
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit status %d, want 1, for which the unit has RestartPreventExitStatus", code)
	}
	if log := d.log.String(); !strings.Contains(log, token.PINFile()) || !strings.Contains(log, "one attempt") || strings.Contains(log, wrong) {
		t.Errorf("it does not name the file: %s", log)
	}
	if n := f.Count("C_Login"); n.Calls != 1 || n.Failed != 1 {
		t.Errorf("C_Login: %+v, want one that fails", n)
	}
	checkPINState(t, token)

	writePIN(t, token, token.PIN())
	startDaemon(t, token, f.Module()).await(http.StatusOK)
}

// checkPINState checks that the token has counted one wrong PIN, and is not locked.
func checkPINState(t *testing.T, token *tokens.Token) {
	t.Helper()
	r := &raw{Ctx: p11.New(token.Module()), t: t, token: token}
	r.initialize()
	defer func() { r.check("C_Finalize", r.Finalize()) }()
	info, err := r.GetTokenInfo(r.slot)
	r.check("C_GetTokenInfo", err)
	if info.Flags&p11.CKF_USER_PIN_COUNT_LOW == 0 || info.Flags&(p11.CKF_USER_PIN_FINAL_TRY|p11.CKF_USER_PIN_LOCKED) != 0 {
		t.Errorf("flags %#x: want that a wrong PIN was counted, and no more", info.Flags)
	}
}
