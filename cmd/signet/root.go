package main

import (
	"encoding/json"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"signetd/daemon/api"
	"signetd/daemon/client"
)

// An app is one run of the program: its global flags and its client.
type app struct {
	socket  string
	json    bool
	timeout time.Duration

	client *client.Client
	began  bool      // its arguments were right
	stderr io.Writer // the command's
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "signet",
		Short: "Sign and open JOSE objects with the keys of signetd",
		Long: `Signet asks signetd, over its Unix socket, to sign and to open JOSE objects
(JWT, JWS, JWE) with keys that never leave their HSM.

Results go to standard output, everything else to standard error. Exit status:
0 ok, 1 refused or not valid, 2 wrong usage, 3 no daemon can be reached.`,
		Example: `  signet keys
  echo '{"sub":"alice","aud":"api"}' | signet sign oidc --ttl 5m
  signet sign oidc claims.json | signet verify
  signet seal oidc claims.json --to partner
  signet encrypt inbox secret.txt | signet decrypt`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.socket, "socket", "", "`path` of the daemon's socket (default $"+client.SocketEnv+" or "+api.DefaultSocket+")")
	flags.BoolVar(&a.json, "json", false, "print the daemon's whole answer as JSON")
	flags.DurationVar(&a.timeout, "timeout", 10*time.Second, "how long to wait for an answer")
	root.AddCommand(a.keys(), a.jwks(), a.sign(), a.verify(), a.seal(), a.open(), a.encrypt(), a.decrypt(),
		a.mac(), a.wrap(), a.unwrap(), a.health(), a.reload(), a.version())
	a.stderr = root.ErrOrStderr()
	return root
}

// connect makes the client once the flags are read.
func (a *app) connect() *client.Client {
	if a.client == nil {
		a.client = client.New(client.Config{Socket: a.socket, Timeout: a.timeout})
	}
	return a.client
}

// do is the RunE of a command whose work is f. What goes wrong before it is wrong
// usage.
func (a *app) do(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if a.timeout <= 0 {
			return usage("--timeout is %s: it must be above zero", a.timeout)
		}
		a.began = true
		a.connect()
		return f(cmd, args)
	}
}

// print prints an answer: with --json the whole of it, else what plain writes.
func (a *app) print(cmd *cobra.Command, answer any, plain func(io.Writer) error) error {
	if !a.json {
		return plain(cmd.OutOrStdout())
	}
	return printJSON(cmd.OutOrStdout(), answer)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printTable prints rows in aligned columns.
func printTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := io.WriteString(t, strings.Join(row, "\t")+"\n"); err != nil {
			return err
		}
	}
	return t.Flush()
}

// line is a plain result of one line.
func line(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text+"\n")
		return err
	}
}
