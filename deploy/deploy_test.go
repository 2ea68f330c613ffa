package deploy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// exposure is the greatest exposure of the service that TestServiceExposure allows: ten
// times the number that `systemd-analyze security` prints. Lower is better.
const exposure = "4"

// analyze runs systemd-analyze on unit files of dir and returns what it prints.
func analyze(t *testing.T, dir string, args ...string) string {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("REQUIRE_SYSTEMD") != "" {
			t.Fatal("systemd-analyze is missing: install the package systemd")
		}
		t.Skip("systemd-analyze is not installed; .ci/run requires it")
	}

	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// unitDir copies the units to a new directory, with this test's own binary in the place
// of the commands. systemd-analyze verify looks for commands, but the daemon is not
// installed here, and a minimal system has no kill.
func unitDir(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	service := read(t, "systemd/signetd.service")
	if !strings.Contains(service, "\nExecStart=/usr/bin/signetd serve ") {
		t.Fatal("signetd.service does not start /usr/bin/signetd")
	}

	dir := t.TempDir()
	commands := strings.NewReplacer("=/usr/bin/signetd ", "="+self+" ", "=/bin/kill ", "="+self+" ")
	write(t, filepath.Join(dir, "signetd.service"), commands.Replace(service))
	write(t, filepath.Join(dir, "signetd.socket"), read(t, "systemd/signetd.socket"))
	return dir
}

func write(t *testing.T, name, data string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestUnitsVerify(t *testing.T) {
	if out := analyze(t, unitDir(t), "verify", "./signetd.service", "./signetd.socket"); out != "" {
		t.Errorf("systemd-analyze verify printed:\n%s", out)
	}
}

func TestServiceExposure(t *testing.T) {
	analyze(t, unitDir(t), "security", "--offline=true", "--no-pager", "--threshold="+exposure, "./signetd.service")
}

// TestVendorDropInVerifies: systemd knows every setting of the example drop-in. They are
// commented out there.
func TestVendorDropInVerifies(t *testing.T) {
	setting := regexp.MustCompile(`(?m)^#([A-Z]\w+=)`)
	example := read(t, "systemd/vendor-hsm.conf.example")
	if !setting.MatchString(example) {
		t.Fatal("the example offers no setting")
	}

	dir := unitDir(t)
	dropIns := filepath.Join(dir, "signetd.service.d")
	if err := os.Mkdir(dropIns, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dropIns, "vendor-hsm.conf"), setting.ReplaceAllString(example, "$1"))
	if out := analyze(t, dir, "verify", "./signetd.service"); out != "" {
		t.Errorf("systemd-analyze verify printed:\n%s", out)
	}
}

// TestSocketMode: only members of the group signet can open the socket. The kernel
// enforces this before any grant is asked for.
func TestSocketMode(t *testing.T) {
	unit := read(t, "systemd/signetd.socket")
	for _, line := range []string{
		"ListenStream=/run/signetd/signetd.sock",
		"SocketMode=0660",
		"SocketGroup=signet",
	} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("signetd.socket lacks %s", line)
		}
	}
}

func TestImageRunsAsNonRoot(t *testing.T) {
	var user string
	for _, words := range dockerfile(t) {
		switch words[0] {
		case "FROM":
			user = "" // each stage starts as its base's user
		case "USER":
			user = words[1]
		}
	}
	if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		t.Errorf("the last stage runs as %q, want the numbers of a user and a group other than root", user)
	}
}

func TestImageSourcesExist(t *testing.T) {
	copies := 0
	for _, words := range dockerfile(t) {
		if words[0] != "COPY" || strings.HasPrefix(words[1], "--from=") {
			continue
		}
		for _, source := range words[1 : len(words)-1] {
			copies++
			if _, err := os.Stat(filepath.Join("..", source)); err != nil {
				t.Errorf("COPY: %v", err)
			}
		}
	}
	if copies == 0 {
		t.Error("the Dockerfile copies nothing from the repository")
	}
}

// dockerfile returns the words of each instruction. Continuation lines are joined.
func dockerfile(t *testing.T) [][]string {
	t.Helper()
	text := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(read(t, "container/Dockerfile"), "")
	text = strings.ReplaceAll(text, "\\\n", " ")

	var instructions [][]string
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 {
			instructions = append(instructions, words)
		}
	}
	return instructions
}

// TestClaimsLeaveTimesToTheDaemon: the example leaves out the claims that the daemon adds.
// With fixed times it would be refused.
func TestClaimsLeaveTimesToTheDaemon(t *testing.T) {
	var claims map[string]any
	if err := json.Unmarshal([]byte(read(t, "examples/claims.json")), &claims); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"iss", "iat", "nbf", "exp", "jti"} {
		if _, ok := claims[name]; ok {
			t.Errorf("claims.json has %q", name)
		}
	}
	if claims["sub"] == nil || claims["aud"] != "api" {
		t.Errorf("claims.json = %v, want a sub and the aud %q", claims, "api")
	}
}
