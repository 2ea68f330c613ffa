package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"signetd/daemon"
	"signetd/daemon/policy"
	"signetd/signer"
	"signetd/signer/mldsa"
)

func (f *File) issuer(at string, c Issuer) (is daemon.Issuer, err error) {
	is = daemon.Issuer{Name: c.Name, Key: c.Key, Algs: c.Algs}
	for i := range c.Algs {
		if err := f.algTwice(at, c.Algs, i); err != nil {
			return is, err
		}
	}

	accept := c.Accept
	accept.Issuers = []string{c.Issuer}
	if is.Accept, err = accept.Compile(); err != nil {
		var rule *policy.RuleError
		if !errors.As(err, &rule) {
			return is, f.At(at, err)
		}
		if rule.Path[0] == "issuers" { // the rules have a list, the file has one
			rule.Path = []string{"issuer"}
		}
		return is, f.atRule(at, rule)
	}

	switch {
	case (c.JWKSFile == "") == (c.Key == ""):
		return is, f.Invalid(at, "must have exactly one of jwks_file and key")
	case c.Key != "":
		return is, f.checkIssuerKey(at, c)
	}
	if is.Keys, err = issuerKeys(c); err != nil {
		return is, f.At(at+".jwks_file", err)
	}
	return is, nil
}

// checkIssuerKey checks the issuer's key if it is one of the daemon's own.
func (f *File) checkIssuerKey(at string, c Issuer) error {
	i := slices.IndexFunc(f.Keys, func(k Key) bool { return k.Name == c.Key && k.Use == signer.UseSig })
	if i < 0 {
		return f.Invalid(at+".key", "no key of use sig is named %.64q", c.Key)
	}
	for j, alg := range c.Algs {
		if !slices.Contains(f.Keys[i].Algs, alg) {
			return f.Invalid(fmt.Sprintf("%s.algs[%d]", at, j), "key %q has the algorithms %v, not %s", c.Key, f.Keys[i].Algs, alg)
		}
	}
	return nil
}

// issuerKeys returns the public keys of an issuer's JWK set that fit its algorithms.
func issuerKeys(c Issuer) ([]signer.JWK, error) {
	set, err := readJWKS(c.JWKSFile)
	if err != nil {
		return nil, err
	}

	var keys []signer.JWK
	for _, k := range set.Keys {
		if akp, ok := k.Key.(*signer.AKP); ok {
			if k.Key, err = mldsa.Public(akp.Alg(), akp.Bytes()); err != nil {
				return nil, err
			}
		}
		if k.Use != string(signer.UseEnc) && slices.ContainsFunc(c.Algs, func(a signer.Alg) bool { return a.Fits(k.Key) == nil }) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: none of its keys fits the algs", signer.ErrInvalid)
	}
	return keys, nil
}

func (f *File) recipient(at string, c Recipient) (r daemon.Recipient, err error) {
	var jwk *signer.JWK
	switch {
	case (c.JWK == nil) == (c.JWKSFile == ""):
		return r, f.Invalid(at, "must have exactly one of jwk and jwks_file")
	case c.JWK != nil:
		if jwk, err = inlineJWK(c.JWK); err != nil {
			return r, f.At(at+".jwk", err)
		}
	default:
		if jwk, err = recipientJWK(c); err != nil {
			return r, f.At(at+".jwks_file", err)
		}
	}

	r = daemon.Recipient{Name: c.Name, Public: jwk.Key, KID: cmp.Or(c.KID, jwk.KeyID), Alg: cmp.Or(c.Alg, signer.Alg(jwk.Algorithm)), Enc: c.Enc}
	if r.Alg == "" {
		return r, f.Invalid(at+".alg", "is missing, and the JWK has no alg")
	}

	// Whether key, alg and enc go together shows when something is encrypted with them.
	if _, err := signer.EncryptJWE(r.Public, r.KID, r.Alg, r.Enc, signer.Header{}, nil); err != nil {
		return r, f.At(at, err)
	}
	return r, nil
}

// inlineJWK reads a public key to encrypt to that is written into the config.
func inlineJWK(members map[string]any) (*signer.JWK, error) {
	text, err := json.Marshal(map[string]any{"keys": []any{members}})
	if err != nil {
		return nil, fmt.Errorf("%w: is not a JSON Web Key", signer.ErrInvalid)
	}
	set, err := signer.ParseJWKSet(text)
	if err != nil {
		return nil, err
	}
	if len(set.Keys) != 1 || set.Keys[0].Use == string(signer.UseSig) {
		return nil, fmt.Errorf("%w: is of an unknown type, or a key to verify with", signer.ErrInvalid)
	}
	return &set.Keys[0], nil
}

// recipientJWK returns the key to encrypt to of a JWK set: the one with the kid, or the
// only one.
func recipientJWK(c Recipient) (*signer.JWK, error) {
	set, err := readJWKS(c.JWKSFile)
	if err != nil {
		return nil, err
	}
	keys := slices.DeleteFunc(set.Keys, func(k signer.JWK) bool {
		return k.Use == string(signer.UseSig) || (c.KID != "" && k.KeyID != c.KID)
	})
	if len(keys) != 1 {
		return nil, fmt.Errorf("%w: %d keys in it are for encryption and have the kid instead of exactly one", signer.ErrInvalid, len(keys))
	}
	return &keys[0], nil
}

// maxJWKS is far more than any JWK set needs, in bytes.
const maxJWKS = 1 << 20

// readJWKS reads a JWK set. Who can write the file decides which tokens are trusted, so
// one that everybody may write is refused.
func readJWKS(path string) (*signer.JWKSet, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%w: must be an absolute path", signer.ErrInvalid)
	}
	f, err := os.Open(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, fmt.Errorf("%w: %w", signer.ErrInvalid, err)
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o: any user could write whom to trust", signer.ErrInvalid, path, info.Mode().Perm())
	}

	data, err := io.ReadAll(io.LimitReader(f, maxJWKS+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxJWKS {
		return nil, fmt.Errorf("%w: %s is longer than %d bytes", signer.ErrInvalid, path, maxJWKS)
	}
	return signer.ParseJWKSet(data)
}
