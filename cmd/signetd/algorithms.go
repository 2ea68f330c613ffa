package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"signetd/backends/awskms"
	"signetd/backends/gcpkms"
	"signetd/backends/software"
	"signetd/signer"
)

// byToken stands for the keys of a PKCS#11 token: what they do is what its mechanisms
// are.
const byToken = "what the token has"

// softwareTypes are the types of key that software keys can be generated of, one for
// each set of algorithms.
var softwareTypes = []string{
	"rsa-2048", "ec-p256", "ec-p384", "ec-p521", "ec-secp256k1", "ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "hmac-512", "aes-128", "aes-192", "aes-256",
}

// An algorithmRow says which keys of each backend do an algorithm, in the backend's
// own words. No keys is none.
type algorithmRow struct {
	Alg      signer.Alg `json:"alg"`
	Use      signer.Use `json:"use"`
	PKCS11   []string   `json:"pkcs11"`
	AWSKMS   []string   `json:"awskms"`
	GCPKMS   []string   `json:"gcpkms"`
	Software []string   `json:"software"`
}

func (r algorithmRow) cells() [][]string { return [][]string{r.PKCS11, r.AWSKMS, r.GCPKMS, r.Software} }

// algorithmHeads are the heads of the columns, that of the algorithm first.
var algorithmHeads = []string{"alg", "PKCS#11", "AWS KMS", "Google Cloud KMS", "software"}

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
		rows, err := algorithmRows(cmd.Context())
		if err != nil {
			return err
		}
		switch *format {
		case "text":
			return algorithmsText(cmd.OutOrStdout(), rows)
		case "md":
			algorithmsMarkdown(cmd.OutOrStdout(), rows)
			return nil
		case "json":
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(rows)
		default:
			return usageError{fmt.Errorf("--format is %q, not text, md or json", *format)}
		}
	}
	return cmd
}

// algorithmRows asks the backends' own tables and, for software keys, keys.
func algorithmRows(ctx context.Context) ([]algorithmRow, error) {
	does, err := softwareAlgorithms(ctx)
	if err != nil {
		return nil, err
	}
	var rows []algorithmRow
	for _, alg := range signer.Known() {
		token := []string{byToken}
		if f := alg.Family(); f == signer.FamilyMLDSA || f == signer.FamilyRSA15 { // which the PKCS#11 backend does not ask for
			token = nil
		}
		rows = append(rows, algorithmRow{
			Alg: alg, Use: alg.Use(), PKCS11: list(token),
			AWSKMS: list(awskms.KeySpecs(alg)), GCPKMS: list(gcpkms.Algorithms(alg)), Software: list(does[alg]),
		})
	}
	return rows, nil
}

// list makes an empty list of none, which is null in JSON.
func list(keys []string) []string { return append([]string{}, keys...) }

// softwareAlgorithms makes a key of each type and sees what it can do.
func softwareAlgorithms(ctx context.Context) (map[signer.Alg][]string, error) {
	b, err := software.Open(ctx, software.Config{})
	if err != nil {
		return nil, err
	}
	does := map[signer.Alg][]string{}
	for _, typ := range softwareTypes {
		key, err := b.OpenKey(ctx, "generate:"+typ)
		if err != nil {
			return nil, err
		}
		for _, alg := range signer.Known() {
			if _, err := signer.NewVersion(key, signer.VersionConfig{KID: typ, Algs: []signer.Alg{alg}}); err == nil {
				does[alg] = append(does[alg], typ)
			}
		}
	}
	return does, b.Close()
}

func algorithmsText(out io.Writer, rows []algorithmRow) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var w io.Writer = table
	fmt.Fprintln(w, strings.Join(algorithmHeads, "\t"))
	for _, r := range rows {
		line := []string{string(r.Alg)}
		for _, keys := range r.cells() {
			switch {
			case len(keys) == 0:
				line = append(line, "no")
			case keys[0] == byToken:
				line = append(line, byToken)
			default:
				line = append(line, "yes")
			}
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	return table.Flush()
}

func algorithmsMarkdown(out io.Writer, rows []algorithmRow) {
	fmt.Fprintf(out, "| %s |\n|%s\n", strings.Join(algorithmHeads, " | "), strings.Repeat("---|", len(algorithmHeads)))
	for _, r := range rows {
		fmt.Fprintf(out, "| %s", r.Alg)
		for _, keys := range r.cells() {
			cell := "no"
			if len(keys) > 0 {
				cell = strings.Join(keys, ", ")
			}
			fmt.Fprintf(out, " | %s", cell)
		}
		fmt.Fprintln(out, " |")
	}
}
