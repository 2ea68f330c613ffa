package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"signetd/daemon"
	"signetd/daemon/policy"
	"signetd/signer"
	"signetd/signer/mldsa"
)

// An IssuerConfig is somebody whose tokens are trusted; see policy.Accept.
type IssuerConfig struct {
	Name      string   `yaml:"name"`
	Issuer    string   `yaml:"issuer"`
	JWKSFile  string   `yaml:"jwks_file"` // or key
	Key       string   `yaml:"key"`       // one of the daemon's
	Algs      []string `yaml:"algs"`
	Audiences []string `yaml:"audiences"`
	Typ       string   `yaml:"typ"`
	Skew      string   `yaml:"skew"`
	Required  []string `yaml:"required"`
}

// A RecipientConfig is somebody to encrypt to.
type RecipientConfig struct {
	Name     string         `yaml:"name"`
	JWK      map[string]any `yaml:"jwk"`       // or jwks_file
	JWKSFile string         `yaml:"jwks_file"` // with kid, unless one key alone fits
	KID      string         `yaml:"kid"`
	Alg      string         `yaml:"alg"` // the key's if absent
	Enc      string         `yaml:"enc"` // any, and A256GCM if absent
}

// maxJWKS is far more than any JWK set needs.
const maxJWKS = 1 << 20

// trust reads issuers and recipients, and adds them to the keys that grants may
// name.
func (d *document) trust(setup *daemon.Setup, keys []policy.Key) ([]policy.Key, error) {
	for i, c := range d.Issuers {
		at := fmt.Sprintf("$.issuers[%d]", i)
		if err := d.checkName(at, c.Name, keys); err != nil {
			return nil, err
		}
		is, err := d.issuer(at, c)
		if err != nil {
			return nil, err
		}
		setup.Issuers = append(setup.Issuers, *is)
		keys = append(keys, policy.Key{Name: c.Name, Use: signer.UseSig, Of: policy.Issuer})
	}
	for i, c := range d.Recipients {
		at := fmt.Sprintf("$.recipients[%d]", i)
		if err := d.checkName(at, c.Name, keys); err != nil {
			return nil, err
		}
		r, err := d.recipient(at, c)
		if err != nil {
			return nil, err
		}
		setup.Recipients = append(setup.Recipients, *r)
		keys = append(keys, policy.Key{Name: c.Name, Use: signer.UseEnc, Of: policy.Recipient})
	}
	return keys, nil
}

// checkName holds the names of issuers and recipients apart from all others: grants
// have them in one list.
func (d *document) checkName(at, name string, keys []policy.Key) error {
	if !keyName.MatchString(name) {
		return d.at(at+".name", fmt.Errorf("%w: a name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit", signer.ErrInvalid))
	}
	if slices.ContainsFunc(keys, func(k policy.Key) bool { return k.Name == name }) {
		return d.at(at+".name", fmt.Errorf("%w: %q is the name of a key, issuer or recipient already", signer.ErrInvalid, name))
	}
	return nil
}

func (d *document) issuer(at string, c IssuerConfig) (*daemon.Issuer, error) {
	is := &daemon.Issuer{Name: c.Name, Key: c.Key}
	for j, alg := range c.Algs {
		is.Algs = append(is.Algs, signer.Alg(alg))
		if is.Algs[j].Use() != signer.UseSig || slices.Contains(c.Algs[:j], alg) {
			return nil, d.at(fmt.Sprintf("%s.algs[%d]", at, j), fmt.Errorf("%w: %.32q is no signature algorithm, or there twice", signer.ErrInvalid, alg))
		}
	}
	accept := policy.Accept{Algs: is.Algs, Issuers: []string{c.Issuer}, Audiences: c.Audiences, Typ: c.Typ, Required: c.Required}
	if c.Skew != "" {
		var err error
		if accept.Skew, err = time.ParseDuration(c.Skew); err != nil || accept.Skew <= 0 { // zero would be the default
			return nil, d.at(at+".skew", fmt.Errorf("%w: a duration above zero such as 30s", signer.ErrInvalid))
		}
	}
	var err error
	if is.Accept, err = accept.Compile(); err != nil {
		return nil, d.issuerRule(at, err)
	}
	switch {
	case (c.JWKSFile == "") == (c.Key == ""):
		return nil, d.at(at, fmt.Errorf("%w: exactly one of jwks_file and key", signer.ErrInvalid))
	case c.Key != "":
		return is, d.checkIssuerKey(at, c)
	}
	set, err := readJWKS(c.JWKSFile)
	if err != nil {
		return nil, d.at(at+".jwks_file", err)
	}
	for _, k := range set.Keys {
		if akp, ok := k.Key.(*signer.AKP); ok {
			if k.Key, err = mldsa.Public(akp.Alg(), akp.Bytes()); err != nil {
				return nil, d.at(at+".jwks_file", err)
			}
		}
		if k.Use != string(signer.UseEnc) && slices.ContainsFunc(is.Algs, func(a signer.Alg) bool { return a.Fits(k.Key) == nil }) {
			is.Keys = append(is.Keys, k)
		}
	}
	if len(is.Keys) == 0 {
		return nil, d.at(at+".jwks_file", fmt.Errorf("%w: no key in it fits the algs", signer.ErrInvalid))
	}
	return is, nil
}

// issuerRule has the place of a rule that cannot be right. The rules have a list of
// issuers where the config has one.
func (d *document) issuerRule(at string, err error) error {
	var rule *policy.RuleError
	if !errors.As(err, &rule) {
		return d.at(at, err)
	}
	if rule.Path[0] == "issuers" {
		rule.Path = []string{"issuer"}
	}
	return d.atRule(at, &policy.RuleError{Path: rule.Path, Err: fmt.Errorf("%w: %w", signer.ErrInvalid, rule.Err)})
}

// checkIssuerKey checks the key of the daemon that an issuer signs with.
func (d *document) checkIssuerKey(at string, c IssuerConfig) error {
	i := slices.IndexFunc(d.Keys, func(k KeyConfig) bool { return k.Name == c.Key && k.Use == string(signer.UseSig) })
	if i < 0 {
		return d.at(at+".key", fmt.Errorf("%w: no key of use sig is named %.64q", signer.ErrInvalid, c.Key))
	}
	for j, alg := range c.Algs {
		if !slices.Contains(d.Keys[i].Algs, alg) {
			return d.at(fmt.Sprintf("%s.algs[%d]", at, j), fmt.Errorf("%w: key %q does %v, not %s", signer.ErrInvalid, c.Key, d.Keys[i].Algs, alg))
		}
	}
	return nil
}

func (d *document) recipient(at string, c RecipientConfig) (*daemon.Recipient, error) {
	var jwk *signer.JWK
	var err error
	switch {
	case (c.JWK == nil) == (c.JWKSFile == ""):
		return nil, d.at(at, fmt.Errorf("%w: exactly one of jwk and jwks_file", signer.ErrInvalid))
	case c.JWK != nil:
		if jwk, err = inlineJWK(c.JWK); err != nil {
			return nil, d.at(at+".jwk", err)
		}
	default:
		if jwk, err = oneJWK(c); err != nil {
			return nil, d.at(at+".jwks_file", err)
		}
	}
	r := &daemon.Recipient{Name: c.Name, Public: jwk.Key, KID: jwk.KeyID, Alg: signer.Alg(jwk.Algorithm), Enc: c.Enc}
	if c.KID != "" {
		r.KID = c.KID
	}
	if c.Alg != "" {
		r.Alg = signer.Alg(c.Alg)
	}
	// What can be wrong with key, alg and enc together shows when they are used.
	if r.Alg == "" {
		return nil, d.at(at+".alg", fmt.Errorf("%w: none, and the key names none", signer.ErrInvalid))
	}
	if _, err := signer.EncryptJWE(r.Public, r.KID, r.Alg, r.Enc, signer.Header{}, nil); err != nil {
		return nil, d.at(at, err)
	}
	return r, nil
}

func inlineJWK(members map[string]any) (*signer.JWK, error) {
	text, err := json.Marshal(map[string]any{"keys": []any{members}})
	if err != nil {
		return nil, fmt.Errorf("%w: no JSON Web Key", signer.ErrInvalid)
	}
	set, err := signer.ParseJWKSet(text)
	if err != nil {
		return nil, err
	}
	if len(set.Keys) != 1 || set.Keys[0].Use == string(signer.UseSig) {
		return nil, fmt.Errorf("%w: a key of a type that is not known, or to verify with", signer.ErrInvalid)
	}
	return &set.Keys[0], nil
}

// oneJWK is the key of a JWK set that is for encryption: the one with the kid, or
// the only one.
func oneJWK(c RecipientConfig) (*signer.JWK, error) {
	set, err := readJWKS(c.JWKSFile)
	if err != nil {
		return nil, err
	}
	keys := slices.DeleteFunc(set.Keys, func(k signer.JWK) bool {
		return k.Use == string(signer.UseSig) || (c.KID != "" && k.KeyID != c.KID)
	})
	if len(keys) != 1 {
		return nil, fmt.Errorf("%w: %d keys in it are to encrypt to and have the kid: one is needed", signer.ErrInvalid, len(keys))
	}
	return &keys[0], nil
}

// readJWKS reads a file that says whom to trust.
func readJWKS(path string) (*signer.JWKSet, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%w: an absolute path", signer.ErrInvalid)
	}
	f, err := os.Open(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, fmt.Errorf("%w: %w", signer.ErrInvalid, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Perm()&0o002 != 0:
		return nil, fmt.Errorf("%w: %s has mode %04o: anybody may write whom to trust", signer.ErrInvalid, path, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxJWKS+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxJWKS:
		return nil, fmt.Errorf("%w: %s is longer than %d bytes", signer.ErrInvalid, path, maxJWKS)
	}
	set, err := signer.ParseJWKSet(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return set, nil
}
