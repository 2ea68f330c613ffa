package main

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"signetd/daemon/api"
	"signetd/signer"
)

// verifyFlags are the flags of signet verify.
type verifyFlags struct {
	issuer, audience   string
	payload            bool
	detached, signedBy string
}

func (a *app) verify() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Verify a JWT and print its claims, or any JWS and print its payload",
		Long: `Verify reads a JWT from FILE or standard input and prints its claims, if its
signature, issuer, audience and times are what the policy of one of signetd's keys,
or of an issuer that its config trusts, says. If not, the exit status is 1 and the
reason is on standard error. With --payload it reads a JWS in any form and writes
the payload, byte for byte: what is in it is not looked at.`,
		Example: `  signet verify token.jwt --audience api
  signet verify --payload --detached release.tar release.tar.jws > /dev/null`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			in, err := a.read(cmd, args, 0, "a token")
			if err != nil {
				return err
			}
			text := string(bytes.TrimSpace(in.data))
			if f.payload {
				return a.verifyPayload(cmd, text, &f)
			}
			resp, err := a.client.VerifyJWT(cmd.Context(), api.VerifyJWTRequest{Token: text, Issuer: f.issuer, Audience: f.audience})
			if err != nil {
				return err
			}
			return a.print(cmd, resp, func(w io.Writer) error { return printClaims(w, resp.Claims) })
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.issuer, "issuer", "", "the issuer that the token must be from")
	flags.StringVar(&f.audience, "audience", "", "an audience that the token must have")
	flags.BoolVar(&f.payload, "payload", false, "verify a JWS with any payload")
	flags.StringVar(&f.detached, "detached", "", "with --payload: `file` with the payload, if the JWS has none in it")
	flags.StringVar(&f.signedBy, "key", "", "with --payload: `name` of the key or issuer that it must be signed by")
	if err := cmd.RegisterFlagCompletionFunc("key", a.completeKey(string(signer.UseSig))); err != nil {
		panic(err) // the flag is defined one line above
	}
	return cmd
}

func (f *verifyFlags) check() error {
	switch {
	case f.payload && (f.issuer != "" || f.audience != ""):
		return usage("--issuer and --audience are of claims, and do not go with --payload")
	case !f.payload && (f.detached != "" || f.signedBy != ""):
		return usage("--detached and --key need --payload")
	}
	return nil
}

func (a *app) verifyPayload(cmd *cobra.Command, jws string, f *verifyFlags) error {
	q := api.VerifyJWSRequest{JWS: jws, Key: f.signedBy}
	if f.detached != "" {
		in, err := readFile(f.detached)
		if err != nil {
			return err
		}
		q.Payload = in.data
	}
	resp, err := a.client.VerifyJWS(cmd.Context(), q)
	if err != nil {
		return err
	}
	return a.print(cmd, resp, func(w io.Writer) error {
		_, err := w.Write(resp.Payload)
		return err
	})
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
