package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"

	"github.com/spf13/cobra"
)

//go:embed dev.yaml.tmpl
var devConfig string

//go:embed dev.txt.tmpl
var devGreeting string

func devCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Serve software keys made in memory, to try things out",
		Long: `dev needs no token and no config file: it makes software keys in memory, grants
you the use of them, and serves them on a socket in your runtime directory until
you press Ctrl-C. No hardware protects these keys, and they are gone when it ends.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				var err error
				if dir, err = runtimeDir(); err != nil {
					return err
				}
			}
			return dev(cmd, dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory for the socket and the audit log (default: signetd in your runtime directory)")
	return cmd
}

func dev(cmd *cobra.Command, dir string) error {
	values := map[string]any{
		"UID":    os.Getuid(),
		"Socket": filepath.Join(dir, "signetd.sock"),
		"Audit":  filepath.Join(dir, "audit.jsonl"),
	}

	var config strings.Builder
	if err := render(&config, devConfig, values); err != nil {
		return err
	}
	d, err := parseConfig("dev", []byte(config.String()))
	if err != nil {
		return err
	}

	// There is no file to read again at a SIGHUP, so it means that the terminal has gone.
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
	defer stop()

	var greetingErr error
	err = serve(ctx, d, func() { greetingErr = render(cmd.OutOrStdout(), devGreeting, values) })
	return errors.Join(err, greetingErr)
}

func render(w io.Writer, text string, values map[string]any) error {
	t, err := template.New("").Parse(text)
	if err != nil {
		return err
	}
	return t.Execute(w, values)
}

// runtimeDir makes a directory that only this user may enter, or returns it if it exists:
// $XDG_RUNTIME_DIR/signetd, or signetd-UID in the directory for temporary files. There
// another user may have made it first, or put a symbolic link in its place.
func runtimeDir() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("signetd-%d", os.Getuid()))
	if base := os.Getenv("XDG_RUNTIME_DIR"); base != "" {
		dir = filepath.Join(base, "signetd")
	}

	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) { // #nosec G703 -- this user's own environment
		return "", err
	}

	info, err := os.Lstat(dir) // #nosec G703 -- this user's own environment
	if err != nil {
		return "", err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm()&0o077 != 0 || int(owner.Uid) != os.Getuid() {
		return "", fmt.Errorf("%s: must be a directory of yours with mode 0700", dir)
	}
	return dir, nil
}
