package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spf13/cobra"

	"signetd/daemon/api"
	"signetd/signer"
)

func (a *app) encrypt() *cobra.Command {
	var recipient, enc, typ, cty string
	cmd := &cobra.Command{
		Use:   "encrypt {KEY | --recipient JWK} [FILE]",
		Short: "Encrypt bytes to a key of the daemon or to a public key",
		Long: `Encrypt reads bytes from FILE or standard input and prints a JWE in compact form.
KEY names a key of the daemon, of which the active version is used, or a recipient of
signetd's config. --recipient names a file with a public key.`,
		Example: `  signet encrypt inbox secret.txt > secret.jwe
  signet encrypt --recipient partner.jwk < secret.txt`,
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: a.completeKey(string(signer.UseEnc)),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			req := api.EncryptJWERequest{Enc: enc, Header: header(typ, cty)}
			var err error
			switch {
			case recipient == "" && len(args) == 0:
				return usage("name a KEY or a --recipient")
			case recipient == "":
				req.Key, args = args[0], args[1:]
			case len(args) > 1:
				return usage("name a KEY or a --recipient, not both")
			default:
				if req.Recipient, err = readJWK(recipient); err != nil {
					return err
				}
			}
			in, err := a.read(cmd, args, 0, "what to encrypt")
			if err != nil {
				return err
			}

			req.Plaintext = in.data
			resp, err := a.client.EncryptJWE(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.print(cmd, resp, line(resp.JWE))
		}),
	}

	flags := cmd.Flags()
	flags.StringVar(&recipient, "recipient", "", "`file` with a public JWK that has an alg")
	flags.StringVar(&enc, "enc", "", "content encryption (default "+string(signer.DefaultEnc)+")")
	flags.StringVar(&typ, "typ", "", "typ of the header")
	flags.StringVar(&cty, "cty", "", "cty of the header, JWT for a nested one")
	return cmd
}

// readJWK reads a public key. It refuses a private key, which would otherwise be sent to
// the daemon.
func readJWK(path string) (*jose.JSONWebKey, error) {
	in, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var jwk jose.JSONWebKey
	switch {
	case json.Unmarshal(in.data, &jwk) != nil:
		return nil, fmt.Errorf("%s: not a JSON Web Key", path)
	case !jwk.IsPublic():
		return nil, fmt.Errorf("%s: holds a secret or private key: a recipient hands out only the public key", path)
	case !jwk.Valid():
		return nil, fmt.Errorf("%s: not a valid key", path)
	case jwk.Algorithm == "":
		return nil, fmt.Errorf("%s: the key has no alg, RSA-OAEP-256 for example", path)
	}
	return &jwk, nil
}

func (a *app) decrypt() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "decrypt [FILE]",
		Short: "Open a JWE and print what was in it",
		Long: `Decrypt reads a JWE, in compact or JSON form, from FILE or standard input and writes
the plaintext to standard output, byte for byte. The kid of the JWE says which key
opens it. Whatever is wrong with a JWE, the error is the same.`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			in, err := a.read(cmd, args, 0, "a JWE")
			if err != nil {
				return err
			}
			resp, err := a.client.DecryptJWE(cmd.Context(), api.DecryptJWERequest{JWE: string(bytes.TrimSpace(in.data)), Key: key})
			if err != nil {
				return err
			}
			return a.print(cmd, resp, raw(resp.Plaintext))
		}),
	}
	cmd.Flags().StringVar(&key, "key", "", "`name` of the key to open it with (default the one with its kid)")
	a.completeKeyFlag(cmd, signer.UseEnc)
	return cmd
}

func (a *app) seal() *cobra.Command {
	var q api.SealJWTRequest
	var ttl time.Duration
	var recipient string
	cmd := &cobra.Command{
		Use:   "seal KEY {--to NAME | --recipient JWK} [FILE]",
		Short: "Sign claims as a JWT and encrypt it for a recipient",
		Long: `Seal reads claims, a JSON object, from FILE or standard input. The daemon signs them
under the policy of KEY, as sign does, and encrypts the token for a recipient of
signetd's config, for one of its keys, or for a public key in a JWK file. Claims that
the policy calls secret are allowed here, and not in sign.`,
		Example: `  echo '{"sub":"alice","aud":"api"}' | signet seal oidc --to partner > sealed.jwt
  signet seal oidc --recipient partner.jwk claims.json`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeKey(string(signer.UseSig)),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			if (q.To == "") == (recipient == "") {
				return usage("name a recipient with --to or with --recipient")
			}
			if err := checkTTL(ttl); err != nil {
				return err
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
	flags.DurationVar(&ttl, "ttl", 0, "how long the JWT is valid (default the key's ttl)")
	return cmd
}

func (a *app) open() *cobra.Command {
	var q api.OpenJWTRequest
	cmd := &cobra.Command{
		Use:   "open [FILE]",
		Short: "Open a sealed JWT, verify it and print its claims",
		Long: `Open reads an encrypted JWT from FILE or standard input, and prints the claims of the
token in it if the token is valid, as verify does. If not, the exit status is 1 and
the reason is on standard error. That a JWT cannot be decrypted has no further reason.`,
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
			return a.print(cmd, resp, indented(resp.Claims))
		}),
	}

	flags := cmd.Flags()
	flags.StringVar(&q.Key, "key", "", "`name` of the key to open it with (default the one with its kid)")
	flags.StringVar(&q.Issuer, "issuer", "", "the issuer that the token must be from")
	flags.StringVar(&q.Audience, "audience", "", "an audience that the token must have")
	return cmd
}

func (a *app) wrap() *cobra.Command {
	var q api.WrapKeyRequest
	cmd := &cobra.Command{
		Use:   "wrap KEY [FILE]",
		Short: "Wrap a key of any kind with a key of the daemon",
		Long: `Wrap reads the bytes of a key from FILE or standard input and prints it wrapped with
KEY, in base64url. AES key wrap takes a multiple of 8 bytes, 16 or more; with --form
rfc5649 any length from 1.`,
		Example:           `  openssl rand 32 | signet wrap kek > data.key`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeKey(string(signer.UseEnc)),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			in, err := a.read(cmd, args, 1, "the bytes of a key")
			if err != nil {
				return err
			}
			defer clear(in.data)

			q.Key, q.PlainKey = args[0], in.data
			resp, err := a.client.WrapKey(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.print(cmd, resp, base64url(resp.EncryptedKey))
		}),
	}
	wrapFlags(cmd, &q.Alg, &q.Form)
	return cmd
}

func (a *app) unwrap() *cobra.Command {
	var q api.UnwrapKeyRequest
	cmd := &cobra.Command{
		Use:   "unwrap KEY [FILE]",
		Short: "Unwrap a key and write its bytes",
		Long: `Unwrap reads a key as wrap prints it, from FILE or standard input, and writes the bytes
of the key to standard output. Whatever is wrong with it, the error is the same.`,
		Example:           `  signet unwrap kek data.key | openssl enc -aes-256-ctr -kfile /dev/stdin -pbkdf2 -in data`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeKey(string(signer.UseEnc)),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			in, err := a.read(cmd, args, 1, "a wrapped key")
			if err != nil {
				return err
			}
			if q.EncryptedKey.UnmarshalText(bytes.TrimSpace(in.data)) != nil {
				return fmt.Errorf("%s: not base64url without padding, as wrap prints it", in.name)
			}

			q.Key = args[0]
			resp, err := a.client.UnwrapKey(cmd.Context(), q)
			if err != nil {
				return err
			}
			defer clear(resp.PlainKey)
			return a.print(cmd, resp, raw(resp.PlainKey))
		}),
	}
	wrapFlags(cmd, &q.Alg, &q.Form)
	cmd.Flags().StringVar(&q.KID, "kid", "", "the version that wrapped it (default the active one)")
	return cmd
}

func wrapFlags(cmd *cobra.Command, alg, form *string) {
	cmd.Flags().StringVar(alg, "alg", "", "one of the key's algorithms (default its first)")
	cmd.Flags().StringVar(form, "form", "", "of AES key wrap: "+api.FormRFC3394+" or "+api.FormRFC5649+" (default "+api.FormRFC3394+")")
}
