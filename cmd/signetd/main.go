// Command signetd holds signing and decryption keys for the programs of a host
// and uses them over a Unix socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	// A second Ctrl-C ends a stop that takes too long. A second SIGTERM does not:
	// requests in flight are answered however often an impatient supervisor asks.
	context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt) })

	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "signetd:", err)
		if usage := (usageError{}); errors.As(err, &usage) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "signetd",
		Short: "Hold JOSE keys in an HSM and use them over a Unix socket",
		Long: `signetd signs JWTs and opens JWEs for the programs of a host, with private
keys that stay in a PKCS#11 token or a cloud KMS. Programs reach it over a Unix
socket and never see a key.`,
		PersistentPreRunE: func(*cobra.Command, []string) error { return harden() },
		SilenceUsage:      true,
		SilenceErrors:     true,
	}
	cmd.AddCommand(serveCommand(), checkCommand(), doctorCommand(), algorithmsCommand(), devCommand(), hsmCommand(), versionCommand())
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), "signetd", version)
		},
	}
}
