//go:build linux && cgo

package load

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed limit/limit.c
var limitSource []byte

// limitConnections is the number of connections with the highest throughput. More
// clients have several requests in flight on each.
const limitConnections = 8

// BuildLimit compiles the program limit into dir with the C compiler of cgo, and returns
// its path.
func BuildLimit(dir string) (path string, err error) {
	source, path := filepath.Join(dir, "limit.c"), filepath.Join(dir, "limit")
	if err := os.WriteFile(source, limitSource, 0o600); err != nil {
		return "", err
	}

	compiler := strings.Fields(os.Getenv("CC"))
	if len(compiler) == 0 {
		compiler = []string{"cc"}
	}
	args := append(compiler[1:], "-O2", "-o", path, source, "-ldl", "-pthread")
	if out, err := exec.Command(compiler[0], args...).CombinedOutput(); err != nil { // #nosec G204 G702 -- the C compiler that cgo would use
		return "", fmt.Errorf("%s: %w: %s", compiler[0], err, bytes.TrimSpace(out))
	}
	return path, nil
}

// StartLimit starts the server and the client of program, which BuildLimit built, for the
// job's key: the most that a process between issuer and token could reach. The server
// listens at the job's socket and ends when its client does.
func StartLimit(ctx context.Context, program string, env []string, j Job) (*Worker, error) {
	command := exec.CommandContext(ctx, program, "server", j.Socket, j.Alg, j.Module, j.Token, j.PIN, j.Key) // #nosec G204 -- our own program
	command.Env = append(os.Environ(), env...)
	command.Stderr = os.Stderr
	server, err := StartCommand("limit server", command)
	if err != nil {
		return nil, err
	}

	command = exec.CommandContext(ctx, program, "client", j.Socket, j.Alg, strconv.Itoa(limitConnections)) // #nosec G204 -- our own program
	command.Stderr = os.Stderr
	w, err := StartCommand("limit", command)
	if err != nil {
		return nil, errors.Join(err, server.kill())
	}
	w.behind = server
	return w, nil
}
