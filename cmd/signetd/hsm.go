package main

import (
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
)

func hsmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hsm",
		Short: "Set up tokens and keys",
		Long: `hsm sets up PKCS#11 tokens and the keys in them. It works in a process of its
own, beside or before the daemon, and needs no config file.`,
	}
	cmd.AddCommand(hsmInitCommand(), hsmKeygenCommand())
	return cmd
}

func hsmInitCommand() *cobra.Command {
	var o provision.InitOptions
	var pinFile, soPINFile string
	cmd := &cobra.Command{
		Use:   "init --module FILE --token LABEL --pin-file FILE --so-pin-file FILE",
		Short: "Initialise a token in the first free slot",
		Long: `init makes a token with the given label in the first slot without one, sets the
PINs of the security officer and of the user, and prints the serial number. It
never changes a token that exists.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.PIN, err = pkcs11.ReadPIN(pinFile); err != nil {
				return err
			}
			defer clear(o.PIN)
			if o.SOPIN, err = pkcs11.ReadPIN(soPINFile); err != nil {
				return err
			}
			defer clear(o.SOPIN)

			serial, err := provision.InitToken(o)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), serial)
			return nil
		},
	}

	f := cmd.Flags()
	f.StringVar(&o.Module, "module", "", "path of the PKCS#11 library")
	f.StringVar(&o.Label, "token", "", "label of the new token")
	f.StringVar(&pinFile, "pin-file", "", "file that holds the user PIN")
	f.StringVar(&soPINFile, "so-pin-file", "", "file that holds the security officer's PIN")
	require(cmd, "module", "token", "pin-file", "so-pin-file")
	return cmd
}

func hsmKeygenCommand() *cobra.Command {
	var o provision.KeyOptions
	var pinFile, id string
	cmd := &cobra.Command{
		Use:   "keygen --module FILE --token LABEL --pin-file FILE --label LABEL --type TYPE --use USE",
		Short: "Generate a key in a token",
		Long: `keygen generates a key pair or a secret key in a token: sensitive, not
extractable, and either to sign or to decrypt, never both. It prints the ref for
the config file and, for a key pair, the public key as PEM.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.ID, err = hex.DecodeString(id); err != nil {
				return errors.New("--id: must be hexadecimal")
			}
			if o.PIN, err = pkcs11.ReadPIN(pinFile); err != nil {
				return err
			}
			defer clear(o.PIN)

			key, err := provision.GenerateKey(o)
			if err != nil {
				return err
			}

			fmt.Fprintln(cmd.OutOrStdout(), key.URI)
			if len(key.Public) == 0 {
				return nil
			}
			return pem.Encode(cmd.OutOrStdout(), &pem.Block{Type: "PUBLIC KEY", Bytes: key.Public})
		},
	}

	f := cmd.Flags()
	f.StringVar(&o.Module, "module", "", "path of the PKCS#11 library")
	f.StringVar(&o.Token, "token", "", "label of the token")
	f.StringVar(&o.Serial, "serial", "", "serial number of the token, with or instead of its label")
	f.StringVar(&pinFile, "pin-file", "", "file that holds the user PIN")
	f.StringVar(&o.Label, "label", "", "label of the new key")
	f.StringVar(&id, "id", "", "CKA_ID of the new key in hexadecimal (default: random)")
	f.StringVar((*string)(&o.Type), "type", "", "one of "+provision.TypeNames())
	f.StringVar((*string)(&o.Use), "use", string(signer.UseSig), "sig or enc")
	require(cmd, "module", "pin-file", "label", "type")
	cmd.MarkFlagsOneRequired("token", "serial")
	return cmd
}

func require(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the command has no such flag: a mistake in this file
		}
	}
}
