package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A journey is one request.
type journey struct{ name, path, body string }

// journeys returns the requests that can be measured. $jwe stands for a JWE for the key
// inbox.
func journeys() []journey {
	const claims = `"key":"oidc","claims":{"sub":"alice","aud":"api"}`
	return []journey{
		{"jwt/sign", "/v1/jwt/sign", "{" + claims + "}"},
		{"jwe/decrypt", "/v1/jwe/decrypt", `{"jwe":"$jwe"}`},
		{"jwt/seal", "/v1/jwt/seal", "{" + claims + `,"to":"inbox"}`},
		{"batch", "/v1/jwt/sign", `{"batch":[{` + claims + "},{" + claims + "},{" + claims + "}]}"},
		{"reload", "/v1/admin/reload", "{}"},
	}
}

const (
	// warmUps are the requests before the first measurement. They fill pools and caches, and
	// are more than the 64 signatures after which a P-256 key gets its tables.
	warmUps = 100
	repeats = 5 // measurements; a block counts if it ran in each

	// settle is the time that the daemon has to end what follows an answer.
	settle = 100 * time.Millisecond
)

// measure sends j's request over a new connection and returns the blocks of the product
// that ran meanwhile. Timers of the daemon run beside the request, so it measures
// several times and keeps the blocks that ran each time.
func (d *daemon) measure(ctx context.Context, j journey) (map[block]bool, error) {
	body, err := d.fill(j.body)
	if err != nil {
		return nil, err
	}
	warm := d.newClient()
	defer warm.CloseIdleConnections()
	for range warmUps {
		if _, err := send(warm, j.path, body); err != nil {
			return nil, err
		}
	}

	var always map[block]bool
	for range repeats {
		ran, err := d.once(ctx, j.path, body)
		if err != nil {
			return nil, err
		}
		if always == nil {
			always = ran
		}
		for b := range always {
			if !ran[b] {
				delete(always, b)
			}
		}
	}
	return always, nil
}

// fill puts a JWE in the place of $jwe.
func (d *daemon) fill(body string) (string, error) {
	if !strings.Contains(body, "$jwe") {
		return body, nil
	}
	c := d.newClient()
	defer c.CloseIdleConnections()
	answer, err := send(c, "/v1/jwe/encrypt", `{"key":"inbox","plaintext":"aGVsbG8"}`)
	if err != nil {
		return "", err
	}
	var sealed struct{ JWE string }
	if err := json.Unmarshal(answer, &sealed); err != nil {
		return "", err
	}
	return strings.ReplaceAll(body, "$jwe", sealed.JWE), nil
}

// once measures one request.
func (d *daemon) once(ctx context.Context, path, body string) (map[block]bool, error) {
	dir, err := os.MkdirTemp(d.dir, "counters")
	if err != nil {
		return nil, err
	}
	c := d.newClient()
	defer c.CloseIdleConnections()

	time.Sleep(settle)
	if err := d.command("clear"); err != nil {
		return nil, err
	}
	if _, err := send(c, path, body); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	if err := d.command("write", dir); err != nil {
		return nil, err
	}

	profile := filepath.Join(dir, "profile")
	cmd := exec.CommandContext(ctx, "go", "tool", "covdata", "textfmt", "-i="+dir, "-o="+profile) // #nosec G204 -- our own arguments
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go tool covdata: %w\n%s", err, out)
	}
	return readProfile(profile)
}
