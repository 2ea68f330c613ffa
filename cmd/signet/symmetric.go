package main

import (
	"bytes"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"signetd/daemon/api"
	"signetd/signer"
)

func (a *app) mac() *cobra.Command {
	var alg, check string
	cmd := &cobra.Command{
		Use:   "mac KEY [FILE]",
		Short: "Make the MAC of any bytes, or verify one",
		Long: `Mac reads bytes from FILE or standard input and prints their HMAC with KEY, in
base64url. With --verify it prints which version of KEY made the MAC that is given;
if none did, the exit status is 1.`,
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
				return a.verifyMAC(cmd, api.VerifyMACRequest{Key: args[0], Alg: alg, Message: in.data}, check)
			}
			resp, err := a.client.SignMAC(cmd.Context(), api.SignMACRequest{Key: args[0], Alg: alg, Message: in.data})
			if err != nil {
				return err
			}
			return a.print(cmd, resp, binary(resp.MAC))
		}),
	}
	cmd.Flags().StringVar(&alg, "alg", "", "one of the key's algorithms (default its first)")
	cmd.Flags().StringVar(&check, "verify", "", "`MAC` to verify, in base64url")
	return cmd
}

func (a *app) verifyMAC(cmd *cobra.Command, q api.VerifyMACRequest, mac string) error {
	if q.MAC.UnmarshalText([]byte(mac)) != nil {
		return usage("--verify is no base64url without padding")
	}
	resp, err := a.client.VerifyMAC(cmd.Context(), q)
	if err != nil {
		return err
	}
	return a.print(cmd, resp, line("ok: made by "+resp.KID))
}

// binary is a plain result in base64url.
func binary(data api.Bytes) func(io.Writer) error {
	text, _ := data.MarshalText() // which has no error
	return line(string(text))
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
			return a.print(cmd, resp, binary(resp.EncryptedKey))
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
		Long: `Unwrap reads what wrap printed, from FILE or standard input, and writes the bytes of
the key to standard output. Whatever is wrong with it, the answer is the same.`,
		Example:           `  signet unwrap kek data.key | openssl enc -aes-256-ctr -kfile /dev/stdin -pbkdf2 -in data`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeKey(string(signer.UseEnc)),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			in, err := a.read(cmd, args, 1, "a wrapped key")
			if err != nil {
				return err
			}
			if q.EncryptedKey.UnmarshalText(bytes.TrimSpace(in.data)) != nil {
				return fmt.Errorf("%s: no base64url without padding, as wrap prints it", in.name)
			}
			q.Key = args[0]
			resp, err := a.client.UnwrapKey(cmd.Context(), q)
			if err != nil {
				return err
			}
			defer clear(resp.PlainKey)
			return a.print(cmd, resp, func(w io.Writer) error {
				_, err := w.Write(resp.PlainKey)
				return err
			})
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
