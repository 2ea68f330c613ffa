package main

import (
	"bytes"
	"io"
	"time"

	"github.com/spf13/cobra"

	"signetd/daemon/api"
	"signetd/signer"
)

func (a *app) seal() *cobra.Command {
	var q api.SealJWTRequest
	var ttl time.Duration
	var recipient string
	cmd := &cobra.Command{
		Use:   "seal KEY {--to NAME | --recipient JWK} [FILE]",
		Short: "Sign claims as a JWT and encrypt it for a recipient",
		Long: `Seal reads claims, a JSON object, from FILE or standard input, has them signed by
the policy of KEY as sign does, and prints the token encrypted for a recipient of
signetd's config, for one of its keys, or for a public key in a JWK file. Claims
that are secret are allowed here and not in sign.`,
		Example: `  echo '{"sub":"alice","aud":"api"}' | signet seal oidc --to partner > sealed.jwt
  signet seal oidc --recipient partner.jwk claims.json`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeKey(string(signer.UseSig)),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			switch {
			case (q.To == "") == (recipient == ""):
				return usage("name a recipient with --to or with --recipient")
			case ttl < 0 || ttl%time.Second != 0:
				return usage("--ttl is %s: it must be whole seconds, 90s or 5m for example", ttl)
			}
			var err error
			if recipient != "" {
				if q.Recipient, err = readJWK(recipient); err != nil {
					return err
				}
			}
			in, err := a.read(cmd, args, 1, "claims")
			if err != nil {
				return err
			}
			if q.Claims, err = in.object(); err != nil {
				return err
			}
			q.Key, q.TTL = args[0], int64(ttl/time.Second)
			resp, err := a.client.SealJWT(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.print(cmd, resp, line(resp.Token))
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&q.To, "to", "", "`name` of a recipient, or of a key of the daemon")
	flags.StringVar(&recipient, "recipient", "", "`file` with a public JWK that has an alg")
	flags.StringVar(&q.Alg, "alg", "", "one of the key's algorithms (default its first)")
	flags.StringVar(&q.Enc, "enc", "", "content encryption (default the recipient's, or "+string(signer.DefaultEnc)+")")
	flags.DurationVar(&ttl, "ttl", 0, "how long the JWT is valid (default the key's maximum)")
	return cmd
}

func (a *app) open() *cobra.Command {
	var q api.OpenJWTRequest
	cmd := &cobra.Command{
		Use:   "open [FILE]",
		Short: "Open a sealed JWT, verify it and print its claims",
		Long: `Open reads an encrypted JWT from FILE or standard input and prints the claims of
the token in it, if the token is valid as verify has it. If not, the exit status is
1 and the reason is on standard error; of what does not open there is no reason.`,
		Example: `  signet open sealed.jwt --audience api`,
		Args:    cobra.MaximumNArgs(1),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			in, err := a.read(cmd, args, 0, "a sealed token")
			if err != nil {
				return err
			}
			q.Token = string(bytes.TrimSpace(in.data))
			resp, err := a.client.OpenJWT(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.print(cmd, resp, func(w io.Writer) error { return printClaims(w, resp.Claims) })
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Key, "key", "", "`name` of the key to open it with (default the one with its kid)")
	flags.StringVar(&q.Issuer, "issuer", "", "the issuer that the token must be from")
	flags.StringVar(&q.Audience, "audience", "", "an audience that the token must have")
	return cmd
}
