package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"signetd/backends/pkcs11"
)

// A usageError is a mistake in how a command was called. The exit status is 2.
type usageError struct{ error }

// Unwrap returns the cause.
func (e usageError) Unwrap() error { return e.error }

// An examination is what `signetd doctor --json` prints.
type examination struct {
	Version  string          `json:"version"` // of signetd
	UID      int             `json:"uid"`     // of the user that doctor ran as
	Verdict  pkcs11.Severity `json:"verdict"`
	Backends []pkcs11.Report `json:"backends"`
}

type doctorOptions struct {
	config  string
	module  pkcs11.Config // examined instead of a config file
	json    bool
	timeout time.Duration
}

func doctorCommand() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [--config FILE | --module FILE [--token LABEL --pin-file FILE]]",
		Short: "Examine PKCS#11 modules, tokens and keys, and say what to fix",
		Long: `doctor loads the PKCS#11 modules that the config names, lists their tokens, logs
in, and examines every configured key: its attributes, the algorithms that it can
serve and by which mechanisms, one run of each, and how long that takes. It ends
with a verdict and what to fix. Run it as the user that the daemon runs as.

With --module it examines one module and needs no config file. It lists the
tokens, and with --token and --pin-file it logs in to one.

It tries to log in at most once to each token, and not at all if a wrong PIN
could lock the token. It never prints the PIN.

Exit status: 0 if nothing fails, 1 if something fails, 2 if the arguments are
wrong or the config cannot be read.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.NoArgs(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}

	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := cmd.Flags()
	f.StringVarP(&o.config, "config", "c", defaultConfig, "the config file")
	f.StringVar(&o.module.Module, "module", "", "path of one PKCS#11 library, instead of a config file")
	f.StringVar(&o.module.Token, "token", "", "with --module: label of the token to log in to")
	f.StringVar(&o.module.Serial, "serial", "", "with --module: serial number of the token, with or instead of its label")
	f.StringVar(&o.module.PINFile, "pin-file", "", "with --module: file that holds the user PIN")
	f.StringVar(&o.module.InitArgs, "init-args", "", "with --module: argument of C_Initialize, as init_args in the config file")
	f.BoolVar(&o.json, "json", false, "print JSON, for programs")
	f.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long a module may take to answer")
	for _, name := range []string{"config", "module", "pin-file"} {
		_ = cmd.MarkFlagFilename(name) // the flag is there: it was made above
	}
	return cmd
}

func (o doctorOptions) run(cmd *cobra.Command) error {
	targets, err := o.targets(cmd.Flags().Changed("config"))
	if err != nil {
		return usageError{err}
	}

	e := examination{Version: version, UID: os.Getuid(), Verdict: pkcs11.OK}
	for _, t := range targets {
		ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
		r := pkcs11.Inspect(ctx, t.config, t.keys)
		cancel()
		r.Backend = t.name
		e.add(r)
	}

	if o.json {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		err = enc.Encode(e)
	} else {
		err = writeExamination(cmd.OutOrStdout(), e)
	}
	if err == nil && e.Verdict == pkcs11.Fail {
		err = errors.New("doctor: something fails: see the verdict")
	}
	return err
}

func (e *examination) add(r pkcs11.Report) {
	e.Backends = append(e.Backends, r)
	e.Verdict = e.Verdict.Worst(r.Verdict())
}

// A target is a backend to examine.
type target struct {
	name   string
	config pkcs11.Config
	keys   []pkcs11.KeyRef
}

// targets returns what to examine: the module that the flags name, or the PKCS#11
// backends of the config.
func (o doctorOptions) targets(configGiven bool) ([]target, error) {
	if o.timeout <= 0 {
		return nil, errors.New("--timeout must be a duration above zero, such as 2m")
	}

	m := o.module
	if m.Module == "" {
		if m != (pkcs11.Config{}) {
			return nil, errors.New("--token, --serial, --pin-file and --init-args need --module")
		}
		return configured(o.config)
	}

	if configGiven {
		return nil, errors.New("--config or --module, but not both")
	}
	if m.PINFile != "" && m.Token == "" && m.Serial == "" {
		return nil, errors.New("--pin-file needs --token or --serial")
	}
	var err error
	if m.Module, err = filepath.Abs(m.Module); err != nil {
		return nil, err
	}
	return []target{{config: m}}, nil
}

// configured returns the PKCS#11 backends of a config file, each with its keys.
func configured(path string) ([]target, error) {
	d, err := readConfig(path)
	if err != nil {
		return nil, err
	}

	var targets []target
	for _, b := range d.backends {
		if b.PKCS11 == nil {
			continue
		}
		t := target{name: b.Name, config: *b.PKCS11}
		for _, k := range d.Keys {
			for i, v := range k.Versions {
				for _, ref := range v.Places() {
					if ref.Backend != b.Name {
						continue
					}
					name := k.Name
					if len(k.Versions) > 1 {
						name = fmt.Sprintf("%s, version %d", k.Name, i+1)
					}
					t.keys = append(t.keys, pkcs11.KeyRef{Name: name, Ref: ref.Ref, Algs: k.Algs})
				}
			}
		}
		targets = append(targets, t)
	}

	if len(targets) == 0 {
		return nil, fmt.Errorf("%s: there is nothing to examine: no backend is PKCS#11", path)
	}
	return targets, nil
}

// writeExamination prints e for people.
func writeExamination(w io.Writer, e examination) error {
	p := &printer{w: w}
	if e.UID == 0 {
		p.line("Run as root: this does not show whether the daemon's user may read its files.\n")
	}
	for _, r := range e.Backends {
		p.report(r)
	}

	p.line("Verdict: %s", map[pkcs11.Severity]string{
		pkcs11.OK: "healthy", pkcs11.Warn: "works, with warnings", pkcs11.Fail: "not fit for use",
	}[e.Verdict])
	for _, r := range e.Backends {
		order := []pkcs11.Severity{pkcs11.Fail, pkcs11.Warn, pkcs11.OK}
		findings := slices.SortedStableFunc(slices.Values(r.Findings), func(a, b pkcs11.Finding) int {
			return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
		})
		for _, f := range findings {
			p.finding(r.Backend, f)
		}
	}
	return p.err
}
