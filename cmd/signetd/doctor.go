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
	"signetd/daemon/config"
)

// A usageError is a mistake in how a command was called. It is exit status 2.
type usageError struct{ error }

// Unwrap returns the mistake.
func (e usageError) Unwrap() error { return e.error }

// An examination is what `signetd doctor --json` prints.
type examination struct {
	Version  string          `json:"version"` // of signetd
	UID      int             `json:"uid"`     // of the user it ran as
	Verdict  pkcs11.Severity `json:"verdict"`
	Backends []pkcs11.Report `json:"backends"`
}

type doctorOptions struct {
	config  string
	target  pkcs11.Config // instead of a config file
	json    bool
	timeout time.Duration
}

func doctorCommand() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [--config FILE | --module FILE [--token LABEL --pin-file FILE]]",
		Short: "Examine PKCS#11 modules, tokens and keys, and say what to fix",
		Long: `doctor loads the PKCS#11 modules that the config names, lists their tokens, logs
in once, and looks at every configured key: its attributes, the algorithms that
it can serve and how, a run of each, and how long that takes. It ends in a
verdict with what to fix. Run it as the user that the daemon runs as.

With --module it looks at one module and needs no config. It then lists the
tokens, and with --token and --pin-file logs in to one.

It makes one login attempt at most for each token, and none with a PIN that
could lock it. It never prints the PIN.

Exit status: 0 if nothing fails, 1 if something does, 2 if it was called wrongly
or the config cannot be read.`,
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
	f.StringVar(&o.target.Module, "module", "", "path of one PKCS#11 library, instead of a config file")
	f.StringVar(&o.target.Token, "token", "", "with --module: label of the token to log in to")
	f.StringVar(&o.target.Serial, "serial", "", "with --module: serial number of the token, beside or instead of its label")
	f.StringVar(&o.target.PINFile, "pin-file", "", "with --module: file that holds the user PIN")
	f.StringVar(&o.target.InitArgs, "init-args", "", "with --module: what C_Initialize gets, as init_args in the config file")
	f.BoolVar(&o.json, "json", false, "print JSON, for programs")
	f.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long a module may take to answer")
	for _, name := range []string{"config", "module", "pin-file"} {
		_ = cmd.MarkFlagFilename(name) // the flag is there: it was made above
	}
	return cmd
}

func (o doctorOptions) run(cmd *cobra.Command) error {
	patients, err := o.patients(cmd.Flags().Changed("config"))
	if err != nil {
		return usageError{err}
	}
	e := examination{Version: version, UID: os.Getuid(), Verdict: pkcs11.OK}
	for _, p := range patients {
		e.add(p.inspect(cmd.Context(), o.timeout))
	}
	if o.json {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		err = enc.Encode(e)
	} else {
		err = writeExamination(cmd.OutOrStdout(), e)
	}
	if err == nil && e.Verdict == pkcs11.Fail {
		err = errors.New("doctor: something fails: see the findings")
	}
	return err
}

func (e *examination) add(r pkcs11.Report) {
	e.Backends = append(e.Backends, r)
	if v := r.Verdict(); v == pkcs11.Fail || e.Verdict == pkcs11.OK {
		e.Verdict = v
	}
}

// A patient is a backend to look at.
type patient struct {
	name   string
	config pkcs11.Config
	keys   []pkcs11.KeyRef
}

func (p patient) inspect(ctx context.Context, timeout time.Duration) pkcs11.Report {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := pkcs11.Inspect(ctx, p.config, p.keys)
	r.Backend = p.name
	return r
}

// patients says what to look at: the one module of the flags, or what the config
// has of PKCS#11.
func (o doctorOptions) patients(configGiven bool) ([]patient, error) {
	t := o.target
	if o.timeout <= 0 {
		return nil, errors.New("--timeout is a duration such as 2m")
	}
	if t.Module == "" {
		if t != (pkcs11.Config{}) {
			return nil, errors.New("--token, --serial, --pin-file and --init-args go with --module")
		}
		return configured(o.config)
	}
	switch {
	case configGiven:
		return nil, errors.New("--config or --module, not both")
	case t.PINFile != "" && t.Token == "" && t.Serial == "":
		return nil, errors.New("--pin-file goes with --token or --serial")
	}
	var err error
	if t.Module, err = filepath.Abs(t.Module); err != nil {
		return nil, err
	}
	return []patient{{config: t}}, nil
}

// configured returns the PKCS#11 backends of a config file, each with its keys.
func configured(path string) ([]patient, error) {
	d, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	var patients []patient
	for _, b := range d.backends {
		if b.PKCS11 == nil {
			continue
		}
		p := patient{name: b.Name, config: *b.PKCS11}
		for _, k := range d.Keys {
			for i, v := range k.Versions {
				for _, ref := range v.Places() {
					if ref.Backend == b.Name {
						p.keys = append(p.keys, keyRef(k, i, ref.Ref))
					}
				}
			}
		}
		patients = append(patients, p)
	}
	if len(patients) == 0 {
		return nil, fmt.Errorf("%s: no backend is PKCS#11: there is nothing to examine", path)
	}
	return patients, nil
}

// keyRef names version i of a key, in one of its places; the number is left out if there is but one.
func keyRef(k config.Key, i int, place string) pkcs11.KeyRef {
	ref := pkcs11.KeyRef{Name: k.Name, Ref: place, Algs: k.Algs}
	if len(k.Versions) > 1 {
		ref.Name = fmt.Sprintf("%s, version %d", k.Name, i+1)
	}
	return ref
}

// writeExamination prints e for people.
func writeExamination(w io.Writer, e examination) error {
	p := &printer{w: w}
	if e.UID == 0 {
		p.line("Run as root: whether the daemon's own user may read what it needs was not tried.\n")
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
