// Signet is the command line of signetd for issuers, recipients and operators.
//
// Results go to standard output and everything else to standard error, with the prefix
// "signet: ", in lower case and without a period. The exit status is 0 for success, 1 for
// a request that was refused or an object that is not valid, 2 for wrong usage, and 3 if
// no daemon can be reached.
//
// It links no cgo: built with CGO_ENABLED=0 it runs on any host of the same platform.
package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"signetd/daemon/api"
	"signetd/daemon/client"
)

// main leaves signals alone: there is nothing to clean up, and a person who presses
// ctrl-c while the program reads from the terminal wants it to end.
func main() {
	a := &app{}
	os.Exit(a.exit(a.root().ExecuteContextC(context.Background())))
}

// An app is one run of the program: its global flags and its client.
type app struct {
	socket  string
	json    bool
	timeout time.Duration

	client *client.Client
	began  bool      // the flags and arguments were right, and the work of the command began
	stderr io.Writer // the standard error of the command
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
	a.stderr = root.ErrOrStderr()

	flags := root.PersistentFlags()
	flags.StringVar(&a.socket, "socket", "", "`path` of the daemon's socket (default $"+client.SocketEnv+" or "+api.DefaultSocket+")")
	flags.BoolVar(&a.json, "json", false, "print the daemon's whole answer as JSON")
	flags.DurationVar(&a.timeout, "timeout", 10*time.Second, "how long to wait for an answer")

	root.AddCommand(a.keys(), a.jwks(), a.sign(), a.verify(), a.seal(), a.open(), a.encrypt(), a.decrypt(),
		a.mac(), a.wrap(), a.unwrap(), a.health(), a.reload(), a.version())
	return root
}

// connect makes the client once the flags are read.
func (a *app) connect() *client.Client {
	if a.client == nil {
		a.client = client.New(client.Config{Socket: a.socket, Timeout: a.timeout})
	}
	return a.client
}

// do returns the RunE of a command whose work is f. An error before f begins is wrong
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
