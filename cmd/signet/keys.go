package main

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signetd/daemon/api"
	"signetd/signer"
)

func (a *app) keys() *cobra.Command {
	return &cobra.Command{
		Use:               "keys [NAME]",
		Short:             "List the keys that you may use, and what for",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeKey(""),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				key, err := a.client.Key(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return a.print(cmd, key, func(w io.Writer) error { return printVersions(w, key) })
			}

			list, err := a.client.Keys(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(cmd, list, func(w io.Writer) error { return printKeys(w, list.Keys) })
		}),
	}
}

// printKeys prints a row for each key.
func printKeys(w io.Writer, keys []api.Key) error {
	rows := [][]string{{"NAME", "USE", "ALGS", "ACTIVE KID", "BACKEND", "YOU MAY"}}
	for _, k := range keys {
		kid, backend := "-", "-"
		if i := slices.IndexFunc(k.Versions, func(v api.KeyVersion) bool { return v.Active }); i >= 0 {
			kid, backend = k.Versions[i].KID, backendsOf(k.Versions[i])
		}
		rows = append(rows, []string{k.Name, k.Use, strings.Join(k.Algs, ","), kid, backend, strings.Join(k.Ops, ",")})
	}
	return printTable(w, rows)
}

// backendsOf names the backends that hold v, with the state of those that are not ok.
func backendsOf(v api.KeyVersion) string {
	places := v.Places
	if len(places) == 0 {
		places = []api.KeyPlace{{Backend: v.Backend, State: v.State}}
	}

	var names []string
	for _, p := range places {
		if p.State != "" && p.State != string(signer.StateOK) {
			p.Backend += " (" + p.State + ")"
		}
		names = append(names, p.Backend)
	}
	return strings.Join(names, ",")
}

// printVersions prints a key and each of its versions.
func printVersions(w io.Writer, k *api.Key) error {
	rows := [][]string{{"name", k.Name}, {"use", k.Use}, {"algs", strings.Join(k.Algs, ",")}, {"you may", strings.Join(k.Ops, ",")}}
	for _, v := range k.Versions {
		notes := []string{cmp.Or(v.KID, "-"), backendsOf(v)}
		if v.Active {
			notes = append(notes, "active")
		}
		if v.NotBefore != nil {
			notes = append(notes, "from "+v.NotBefore.UTC().Format(time.RFC3339))
		}
		rows = append(rows, []string{"version", strings.Join(notes, "  ")})
	}
	return printTable(w, rows)
}

func (a *app) jwks() *cobra.Command {
	return &cobra.Command{
		Use:   "jwks",
		Short: "Print the public keys as a JSON Web Key Set",
		Long:  "Print the public half of each key that you may use, as a JSON Web Key Set\n(RFC 7517 section 5).",
		Args:  cobra.NoArgs,
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			set, err := a.client.JWKS(cmd.Context())
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), set)
		}),
	}
}

// completeKey completes the first argument with the names of keys of a use, or of all
// keys if use is empty. It completes later arguments with files.
func (a *app) completeKey(use string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}

		ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
		defer cancel()
		list, err := a.connect().Keys(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}

		var names []cobra.Completion
		for _, k := range list.Keys {
			if use == "" || k.Use == use {
				names = append(names, cobra.CompletionWithDesc(k.Name, strings.Join(k.Ops, ",")))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeKeyFlag completes the flag --key of cmd with the names of keys of a use.
func (a *app) completeKeyFlag(cmd *cobra.Command, use signer.Use) {
	if err := cmd.RegisterFlagCompletionFunc("key", a.completeKey(string(use))); err != nil {
		panic(err) // cmd has no flag --key
	}
}
