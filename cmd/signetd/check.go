package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Read the config, open every key, use each once, and exit",
		Long: `check reads the config file as serve does, logs in to every backend, opens every
key, and uses it once with each of its algorithms. A backend that does not answer
is an error, although serve would start without it. Run it as the user that the
daemon runs as. It opens no socket and writes no audit log.`,
		Args: cobra.NoArgs,
	}
	path := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := readConfig(*path)
		if err != nil {
			return err
		}
		if _, err := d.Settings(); err != nil {
			return err
		}

		ctx, cancel := context.WithTimeout(cmd.Context(), openTimeout)
		defer cancel()
		setup, err := d.openAll(ctx)
		if err != nil {
			return err
		}

		out := cmd.OutOrStdout()
		for _, k := range setup.Ring.Keys() {
			for _, v := range k.Versions {
				var in []string
				for _, p := range v.Places() {
					in = append(in, p.Backend)
				}
				fmt.Fprintf(out, "key %s: kid %s in %s: %v: ok", k.Name, v.KID(), strings.Join(in, ", "), v.Algs())
				if text := v.Describe(); text != "" {
					fmt.Fprintf(out, ": %s", text)
				}
				fmt.Fprintln(out)
			}
			if rules := setup.Policy.Rules(k.Name); rules != nil && rules.DryRun() {
				fmt.Fprintf(out, "key %s: its claim policy is in dry-run: it signs claims that it would deny\n", k.Name)
			}
		}

		for _, is := range setup.Issuers {
			fmt.Fprintf(out, "issuer %s: %d public keys, %v: ok\n", is.Name, len(is.Keys), is.Algs)
		}
		for _, r := range setup.Recipients {
			fmt.Fprintf(out, "recipient %s: %s: ok\n", r.Name, r.Alg)
		}
		fmt.Fprintf(out, "%s: ok\n", *path)
		return setup.Close()
	}
	return cmd
}
