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

// rows returns the titles and then a row for each algorithm. With names, the cells have
// the names of the keys.
func (t algorithmTable) rows(names bool) [][]string {
	titles := []string{"alg"}
	for _, kind := range t {
		titles = append(titles, kind.Title)
	}

	rows := [][]string{titles}
	for _, alg := range signer.Known() {
		row := []string{string(alg)}
		for _, kind := range t {
			cell := "yes"
			switch keys := kind.KeysFor(alg); {
			case len(keys) == 0:
				cell = "no"
			case names || kind.ByDevice:
				cell = strings.Join(keys, ", ")
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return rows
}

// text prints a table without the names of keys, which would be too wide.
func (t algorithmTable) text(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range t.rows(false) {
		_, _ = io.WriteString(table, strings.Join(row, "\t")+"\n") // Flush returns its error
	}
	return table.Flush()
}

func (t algorithmTable) markdown(out io.Writer) {
	for i, row := range t.rows(true) {
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(out, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
}

// json prints an array with an object for each algorithm. Its members are alg, use,
// and one for each kind of backend with an array of keys, which may be empty.
func (t algorithmTable) json(out io.Writer) error {
	var rows []json.RawMessage
	for _, alg := range signer.Known() {
		// Written by hand, because a struct cannot have a member for each kind, and a map
		// would lose their order.
		var row bytes.Buffer
		fmt.Fprintf(&row, `{"alg":%q,"use":%q`, alg, alg.Use())
		for _, kind := range t {
			keys, err := json.Marshal(append([]string{}, kind.KeysFor(alg)...)) // [] rather than null
			if err != nil {
				return err
			}
			fmt.Fprintf(&row, `,%q:%s`, kind.Name, keys)
		}
		row.WriteByte('}')
		rows = append(rows, row.Bytes())
	}

	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(rows)
}
