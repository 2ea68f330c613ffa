package main

import (
	"bytes"
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
The daemon checks the claims against the policy of the key, and adds iss, iat, nbf,
exp and jti where they are missing.
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

			in, err := a.read(cmd, args, 1, "claims")
			if err != nil {
				return err
			}
			req := api.SignJWTRequest{Key: args[0], TTL: int64(f.ttl / time.Second), Alg: f.alg, Header: header(f.typ, "")}
			if req.Claims, err = in.object(); err != nil {
				return err
			}
			resp, err := a.client.SignJWT(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.print(cmd, resp, line(resp.Token))
		}),
	}

	flags := cmd.Flags()
	flags.StringVar(&f.alg, "alg", "", "one of the key's algorithms (default its first)")
	flags.DurationVar(&f.ttl, "ttl", 0, "how long the JWT is valid (default the key's ttl)")
	flags.StringVar(&f.typ, "typ", "", "typ of the header; of a JWT only the one that the key has")
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
		return usage("--ttl is for claims: it cannot be used with --payload")
	case !f.payload && (f.detached || f.flattened || f.general || f.cty != ""):
		return usage("--detached, --flattened, --general and --cty need --payload")
	case f.flattened && f.general:
		return usage("use --flattened or --general, not both")
	}
	return checkTTL(f.ttl)
}

func checkTTL(ttl time.Duration) error {
	if ttl < 0 || ttl%time.Second != 0 {
		return usage("--ttl is %s: it must be whole seconds, 90s or 5m for example", ttl)
	}
	return nil
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

// header returns the header of a request, or nil if neither member is set.
func header(typ, cty string) *api.Header {
	if typ == "" && cty == "" {
		return nil
	}
	return &api.Header{Typ: typ, Cty: cty}
}

func (a *app) verify() *cobra.Command {
	var token api.VerifyJWTRequest
	var jws api.VerifyJWSRequest
	var payload bool
	var detached string
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Verify a JWT and print its claims, or any JWS and print its payload",
		Long: `Verify reads a JWT from FILE or standard input. It prints the claims if signature,
issuer, audience and times are valid under the policy of one of signetd's keys, or of
an issuer that its config trusts. If not, the exit status is 1 and the reason is on
standard error. With --payload it reads a JWS in any form and writes the payload, byte
for byte, without looking at what the payload says.`,
		Example: `  signet verify token.jwt --audience api
  signet verify --payload --detached release.tar release.tar.jws > /dev/null`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			switch {
			case payload && (token.Issuer != "" || token.Audience != ""):
				return usage("--issuer and --audience are for claims: they cannot be used with --payload")
			case !payload && (detached != "" || jws.Key != ""):
				return usage("--detached and --key need --payload")
			}

			in, err := a.read(cmd, args, 0, "a token")
			if err != nil {
				return err
			}
			text := string(bytes.TrimSpace(in.data))
			if !payload {
				token.Token = text
				resp, err := a.client.VerifyJWT(cmd.Context(), token)
				if err != nil {
					return err
				}
				return a.print(cmd, resp, indented(resp.Claims))
			}

			jws.JWS = text
			if detached != "" {
				if in, err = readFile(detached); err != nil {
					return err
				}
				jws.Payload = in.data
			}
			resp, err := a.client.VerifyJWS(cmd.Context(), jws)
			if err != nil {
				return err
			}
			return a.print(cmd, resp, raw(resp.Payload))
		}),
	}

	flags := cmd.Flags()
	flags.StringVar(&token.Issuer, "issuer", "", "the issuer that the token must be from")
	flags.StringVar(&token.Audience, "audience", "", "an audience that the token must have")
	flags.BoolVar(&payload, "payload", false, "verify a JWS with any payload")
	flags.StringVar(&detached, "detached", "", "with --payload: `file` with the payload, if it is not in the JWS")
	flags.StringVar(&jws.Key, "key", "", "with --payload: `name` of the key or issuer that must have signed it")
	a.completeKeyFlag(cmd, signer.UseSig)
	return cmd
}

func (a *app) mac() *cobra.Command {
	var alg, check string
	cmd := &cobra.Command{
		Use:   "mac KEY [FILE]",
		Short: "Make the MAC of any bytes, or verify one",
		Long: `Mac reads bytes from FILE or standard input and prints their HMAC with KEY, in
base64url. With --verify it prints which version of KEY made the given MAC; if no
version did, the exit status is 1.`,
		Example: `  signet mac webhooks body.json
  signet mac webhooks body.json --verify "$MAC"`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeKey(string(signer.UseSig)),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			in, err := a.read(cmd, args, 1, "a message")
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("verify") {
				q := api.VerifyMACRequest{Key: args[0], Alg: alg, Message: in.data}
				if q.MAC.UnmarshalText([]byte(check)) != nil {
					return usage("--verify: not base64url without padding")
				}
				resp, err := a.client.VerifyMAC(cmd.Context(), q)
				if err != nil {
					return err
				}
				return a.print(cmd, resp, line("ok: made by "+resp.KID))
			}

			resp, err := a.client.SignMAC(cmd.Context(), api.SignMACRequest{Key: args[0], Alg: alg, Message: in.data})
			if err != nil {
				return err
			}
			return a.print(cmd, resp, base64url(resp.MAC))
		}),
	}

	cmd.Flags().StringVar(&alg, "alg", "", "one of the key's algorithms (default its first)")
	cmd.Flags().StringVar(&check, "verify", "", "`MAC` to verify, in base64url")
	return cmd
}
