package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"signetd/backends"
	"signetd/signer"
)

func algorithmsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "algorithms",
		Short: "Print which backend can do which algorithm, and with which keys",
		Long: `algorithms prints the JOSE algorithms and, for each backend, the keys that do
them: key specs of AWS KMS, algorithms of Google Cloud KMS, types of software
keys. What a PKCS#11 key does is up to the token: "signetd doctor" asks it.`,
		Args: cobra.NoArgs,
	}
	format := cmd.Flags().String("format", "text", "text, md or json")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		table := algorithmTable(backends.Kinds())
		switch *format {
		case "text":
			return table.text(cmd.OutOrStdout())
		case "md":
			table.markdown(cmd.OutOrStdout())
			return nil
		case "json":
			return table.json(cmd.OutOrStdout())
		default:
			return usageError{fmt.Errorf("--format is %q, not text, md or json", *format)}
		}
	}
	return cmd
}

// An algorithmTable shows which keys of each kind of backend do an algorithm: a row
// for each algorithm, and a column for each kind.
type algorithmTable []backends.Kind

// titles returns the titles of the columns, that of the algorithm first.
func (t algorithmTable) titles() []string {
	titles := []string{"alg"}
	for _, kind := range t {
		titles = append(titles, kind.Title)
	}
	return titles
}

// text prints a table without the names of keys, which would be too wide.
func (t algorithmTable) text(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var w io.Writer = table // whose errors Flush returns
	fmt.Fprintln(w, strings.Join(t.titles(), "\t"))
	for _, alg := range signer.Known() {
		fmt.Fprint(w, alg)
		for _, kind := range t {
			cell := "yes"
			switch keys := kind.KeysFor(alg); {
			case len(keys) == 0:
				cell = "no"
			case kind.ByDevice:
				cell = strings.Join(keys, ", ")
			}
			fmt.Fprintf(w, "\t%s", cell)
		}
		fmt.Fprintln(w)
	}
	return table.Flush()
}

func (t algorithmTable) markdown(out io.Writer) {
	titles := t.titles()
	fmt.Fprintf(out, "| %s |\n|%s\n", strings.Join(titles, " | "), strings.Repeat("---|", len(titles)))
	for _, alg := range signer.Known() {
		fmt.Fprintf(out, "| %s", alg)
		for _, kind := range t {
			cell := "no"
			if keys := kind.KeysFor(alg); len(keys) > 0 {
				cell = strings.Join(keys, ", ")
			}
			fmt.Fprintf(out, " | %s", cell)
		}
		fmt.Fprintln(out, " |")
	}
}

// json prints an array with an object for each algorithm. Its members are alg, use,
// and one for each kind of backend with an array of keys, which may be empty.
func (t algorithmTable) json(out io.Writer) error {
	var rows []json.RawMessage
	for _, alg := range signer.Known() {
		row, err := t.jsonRow(alg)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}

	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(rows)
}

// jsonRow writes an object by hand, because a struct cannot have a member for each
// kind, and a map would lose their order.
func (t algorithmTable) jsonRow(alg signer.Alg) (json.RawMessage, error) {
	var row bytes.Buffer
	fmt.Fprintf(&row, `{"alg":%q,"use":%q`, alg, alg.Use())
	for _, kind := range t {
		keys, err := json.Marshal(append([]string{}, kind.KeysFor(alg)...)) // [] rather than null
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&row, `,%q:%s`, kind.Name, keys)
	}
	row.WriteByte('}')
	return row.Bytes(), nil
}
