package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"signetd/backends"
	"signetd/daemon"
	"signetd/daemon/config"
	"signetd/daemon/keyring"
	"signetd/signer"
)

const defaultConfig = "/etc/signetd/signetd.yaml"

func configFlag(cmd *cobra.Command) *string {
	path := cmd.Flags().StringP("config", "c", defaultConfig, "the config file")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml") // the line above has made the flag
	return path
}

// A document is a config file together with the backends that it names.
type document struct {
	*config.File

	backends []backends.Config
}

func readConfig(path string) (*document, error) {
	f, b, err := config.Read[backends.Config](path)
	return &document{f, b}, err
}

func parseConfig(name string, text []byte) (*document, error) {
	f, b, err := config.Parse[backends.Config](name, text)
	return &document{f, b}, err
}

// toOpen checks the names of the backends, and returns them ready to be opened.
func (d *document) toOpen() ([]keyring.Backend, error) {
	var list []keyring.Backend
	places := map[string]string{} // where in the config each name is
	for i, c := range d.backends {
		at := fmt.Sprintf("$.backends[%d]", i)
		if c.Name == "" {
			return nil, d.Invalid(at+".name", "is empty")
		}
		if first, ok := places[c.Name]; ok {
			return nil, d.Twice(at+".name", first)
		}
		places[c.Name] = at + ".name"

		if c.Software != nil && !d.InsecureSoftwareKeys {
			return nil, d.Invalid(at+".software", "no hardware protects software keys; to use them all the same, set insecure_software_keys: true")
		}

		open := func(ctx context.Context) (signer.Backend, error) { return backends.Open(ctx, c) }
		list = append(list, keyring.Backend{Name: c.Name, At: at, Open: open})
	}
	return list, nil
}

// openAll opens every backend and key of the config, for a command that checks them: a
// key that cannot be opened is an error.
func (d *document) openAll(ctx context.Context) (daemon.Setup, error) {
	list, err := d.toOpen()
	if err != nil {
		return daemon.Setup{}, err
	}
	return keyring.New(daemon.NewMetrics(version), nil).OpenAll(ctx, d.File, list)
}
