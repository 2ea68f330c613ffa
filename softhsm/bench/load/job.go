//go:build linux && cgo

package load

import (
	"context"
	"fmt"
)

// A Job says what a worker does. The worker gets it as JSON in its one argument, PIN
// included: token and PIN last as long as the bench.
type Job struct {
	Kind    string `json:"kind"` // token, crypto11, tool or signetd for New, or a kind that the bench itself knows
	Module  string `json:"module,omitempty"`
	Token   string `json:"token,omitempty"` // its label
	PIN     string `json:"pin,omitempty"`
	PINFile string `json:"pin_file,omitempty"`
	Key     string `json:"key,omitempty"` // the key's label, which is its name in signetd, too
	ID      string `json:"id,omitempty"`  // CKA_ID of the key in hexadecimal digits
	Alg     string `json:"alg,omitempty"` // of JOSE

	// Socket is signetd's.
	Socket string `json:"socket,omitempty"`
	// Op is what signetd is asked for: jwt, digest or jwe. Batch is the number of items
	// in a request, 1 for a request without a batch.
	Op    string `json:"op,omitempty"`
	Batch int    `json:"batch,omitempty"`
	// OwnConnections gives each client a connection of its own. Otherwise they share one
	// client.Client.
	OwnConnections bool `json:"own_connections,omitempty"`

	// Layer is the part of signetd that the worker runs in its own process.
	Layer string `json:"layer,omitempty"`
	// Unverified is set if the layer must not verify its signatures.
	Unverified bool `json:"unverified,omitempty"`
	// Dir is the folder for profiles.
	Dir string `json:"dir,omitempty"`
	// Labels are those of the keys that [Fill] makes.
	Labels []string `json:"labels,omitempty"`
}

// New returns the target of a job.
func New(ctx context.Context, j Job) (Target, error) {
	switch j.Kind {
	case "token":
		return newToken(j)
	case "crypto11":
		return newCrypto11(j)
	case "tool":
		return newTool(ctx, j)
	case "signetd":
		return newSignetd(ctx, j)
	default:
		return nil, fmt.Errorf("no worker of kind %q", j.Kind)
	}
}
