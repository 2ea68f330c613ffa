package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"signetd/daemon/api"
)

// version is set by the linker (-X main.version=1.2.3).
var version string

func (a *app) health() *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Ask whether the daemon and its backends are ready",
		Long: `Health prints the state of each backend, and which versions of the keys that you may
use are missing because their backend has not answered yet. The exit status is 1 if
some key has no version that can be used.`,
		Args: cobra.NoArgs,
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			ready, err := a.client.Ready(cmd.Context())
			if err != nil {
				return err
			}

			if err := a.print(cmd, ready, func(w io.Writer) error { return printStates(w, ready) }); err != nil {
				return err
			}
			if !ready.Ready {
				return fmt.Errorf("not ready: %s", cmp.Or(strings.Join(failing(ready.Backends), ", "), "versions are missing"))
			}
			return nil
		}),
	}
}

// printStates prints the state of each backend, and the versions that are missing.
func printStates(w io.Writer, ready *api.Ready) error {
	rows := [][]string{{"BACKEND", "STATE"}}
	for _, name := range slices.Sorted(maps.Keys(ready.Backends)) {
		rows = append(rows, []string{name, ready.Backends[name]})
	}
	if err := printTable(w, rows); err != nil || ready.MissingVersions == 0 {
		return err
	}

	if _, err := fmt.Fprintf(w, "\n%d missing:\n", ready.MissingVersions); err != nil {
		return err
	}
	rows = [][]string{{"KEY", "KID", "BACKEND"}}
	for _, m := range ready.Missing {
		rows = append(rows, []string{m.Key, cmp.Or(m.KID, "-"), m.Backend})
	}
	return printTable(w, rows)
}

// failing returns the names of the backends that are not ok, in order.
func failing(backends map[string]string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(backends)) {
		if backends[name] != "ok" {
			names = append(names, name)
		}
	}
	return names
}

func (a *app) reload() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read its config again",
		Long: `Reload returns when the new config is in force. If the daemon refuses it, the reason is
printed, the exit status is 1, and the daemon goes on with the old config.`,
		Args: cobra.NoArgs,
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			resp, err := a.client.Reload(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(cmd, resp, line(fmt.Sprintf("reloaded: %d keys", resp.Keys)))
		}),
	}
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program and of the daemon",
		Args:  cobra.NoArgs,
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			versions := struct {
				Signet  string `json:"signet"`
				Signetd string `json:"signetd,omitempty"`
			}{Signet: build()}

			text := "signet " + versions.Signet
			if daemon, err := a.client.Version(cmd.Context()); err == nil {
				versions.Signetd = daemon.Version
				text += "\nsignetd " + daemon.Version
			} else {
				a.say("cannot ask the daemon for its version: %v", err)
			}

			return a.print(cmd, versions, line(text))
		}),
	}
}

// build returns the version of this program.
func build() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
