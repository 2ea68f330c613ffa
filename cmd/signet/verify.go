package main

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"signetd/daemon/api"
)

func (a *app) verify() *cobra.Command {
	var issuer, audience string
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Verify a JWT of one of the daemon's keys and print its claims",
		Long: `Verify reads a JWT from FILE or standard input and prints its claims, if its
signature, issuer, audience and times are what the key's policy says. If not, the
exit status is 1 and the reason is on standard error.`,
		Example: `  signet verify token.jwt --audience api`,
		Args:    cobra.MaximumNArgs(1),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			in, err := a.read(cmd, args, 0, "a token")
			if err != nil {
				return err
			}
			resp, err := a.client.VerifyJWT(cmd.Context(), api.VerifyJWTRequest{
				Token: string(bytes.TrimSpace(in.data)), Issuer: issuer, Audience: audience,
			})
			if err != nil {
				return err
			}
			return a.print(cmd, resp, func(w io.Writer) error { return printClaims(w, resp.Claims) })
		}),
	}
	cmd.Flags().StringVar(&issuer, "issuer", "", "the issuer that the token must be from")
	cmd.Flags().StringVar(&audience, "audience", "", "an audience that the token must have")
	return cmd
}

func printClaims(w io.Writer, claims json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, claims, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}
