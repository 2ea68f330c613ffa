package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

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
		Long: `Encrypt reads bytes from FILE or standard input and prints a JWE in compact form,
to the active version of KEY, to the recipient of signetd's config that KEY names,
or to the public key in a JWK file.`,
		Example: `  signet encrypt inbox secret.txt > secret.jwe
  signet encrypt --recipient partner.jwk < secret.txt`,
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: a.completeKey(string(signer.UseEnc)),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			req := api.EncryptJWERequest{Enc: enc, Header: header(typ, cty)}
			args, err := addressee(&req, recipient, args)
			if err != nil {
				return err
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

// addressee sets whom req is for, and returns the arguments that are left.
func addressee(req *api.EncryptJWERequest, recipient string, args []string) ([]string, error) {
	switch {
	case recipient == "" && len(args) == 0:
		return nil, usage("name a KEY or a --recipient")
	case recipient == "":
		req.Key = args[0]
		return args[1:], nil
	case len(args) > 1:
		return nil, usage("name a KEY or a --recipient, not both")
	}
	var err error
	req.Recipient, err = readJWK(recipient)
	return args, err
}

// readJWK reads a public key. A private one is refused here: it would go to the
// daemon.
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
		return nil, fmt.Errorf("%s: holds a secret or private key: a recipient gives its public key only", path)
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
		Long: `Decrypt reads a JWE, in compact or JSON form, from FILE or standard
input and writes the plaintext to standard output, byte for byte. Its kid says
which key opens it. Whatever is wrong with a JWE, the answer is the same.`,
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
			return a.print(cmd, resp, func(w io.Writer) error {
				_, err := w.Write(resp.Plaintext)
				return err
			})
		}),
	}
	cmd.Flags().StringVar(&key, "key", "", "`name` of the key to open it with (default the one with its kid)")
	if err := cmd.RegisterFlagCompletionFunc("key", a.completeKey(string(signer.UseEnc))); err != nil {
		panic(err) // the flag is defined one line above
	}
	return cmd
}
