package main

import (
	"time"

	"github.com/spf13/cobra"

	"signetd/daemon/api"
	"signetd/signer"
)

// signFlags are the flags of signet sign.
type signFlags struct {
	alg       string
	ttl       time.Duration
	typ       string
	payload   bool
	detached  bool
	flattened bool
	general   bool
	cty       string
}

func (a *app) sign() *cobra.Command {
	var f signFlags
	cmd := &cobra.Command{
		Use:   "sign KEY [FILE]",
		Short: "Sign claims as a JWT, or any bytes as a JWS",
		Long: `Sign reads claims, a JSON object, from FILE or standard input and prints a JWT.
The daemon checks them against the key's policy and fills in what is missing of
iss, iat, nbf, exp and jti.
With --payload it signs the bytes of FILE as they are and prints a JWS.`,
		Example: `  echo '{"sub":"alice","aud":"api"}' | signet sign oidc --ttl 5m
  signet sign releases --payload --detached release.tar > release.tar.jws`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeKey(string(signer.UseSig)),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if f.payload {
				return a.signPayload(cmd, args, &f)
			}
			return a.signClaims(cmd, args, &f)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.alg, "alg", "", "one of the key's algorithms (default its first)")
	flags.DurationVar(&f.ttl, "ttl", 0, "how long the JWT is valid (default the key's maximum)")
	flags.StringVar(&f.typ, "typ", "", "typ of the header; of a JWT only as the key has it")
	flags.BoolVar(&f.payload, "payload", false, "sign the bytes of FILE as a JWS")
	flags.BoolVar(&f.detached, "detached", false, "with --payload: leave the payload out (RFC 7515 appendix F)")
	flags.BoolVar(&f.flattened, "flattened", false, "with --payload: print the flattened JSON form")
	flags.BoolVar(&f.general, "general", false, "with --payload: print the general JSON form")
	flags.StringVar(&f.cty, "cty", "", "with --payload: cty of the header, the media type of the payload")
	return cmd
}

func (f *signFlags) check() error {
	switch {
	case f.payload && f.ttl != 0:
		return usage("--ttl goes with claims, not with --payload")
	case !f.payload && (f.detached || f.flattened || f.general || f.cty != ""):
		return usage("--detached, --flattened, --general and --cty need --payload")
	case f.flattened && f.general:
		return usage("--flattened and --general: one of them")
	case f.ttl < 0 || f.ttl%time.Second != 0:
		return usage("--ttl is %s: it must be whole seconds, 90s or 5m for example", f.ttl)
	}
	return nil
}

func (a *app) signClaims(cmd *cobra.Command, args []string, f *signFlags) error {
	in, err := a.read(cmd, args, 1, "claims")
	if err != nil {
		return err
	}
	claims, err := in.object()
	if err != nil {
		return err
	}
	req := api.SignJWTRequest{Key: args[0], Claims: claims, TTL: int64(f.ttl / time.Second), Alg: f.alg, Header: header(f.typ, "")}
	resp, err := a.client.SignJWT(cmd.Context(), req)
	if err != nil {
		return err
	}
	return a.print(cmd, resp, line(resp.Token))
}

func (a *app) signPayload(cmd *cobra.Command, args []string, f *signFlags) error {
	in, err := a.read(cmd, args, 1, "the payload")
	if err != nil {
		return err
	}
	req := api.SignJWSRequest{Key: args[0], Payload: in.data, Alg: f.alg, Detached: f.detached, Header: header(f.typ, f.cty)}
	switch {
	case f.flattened:
		req.Serialization = api.Flattened
	case f.general:
		req.Serialization = api.General
	}
	resp, err := a.client.SignJWS(cmd.Context(), req)
	if err != nil {
		return err
	}
	return a.print(cmd, resp, line(resp.JWS))
}

// header is absent from a request that sets none of its members.
func header(typ, cty string) *api.Header {
	if typ == "" && cty == "" {
		return nil
	}
	return &api.Header{Typ: typ, Cty: cty}
}
