package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"signetd/daemon/api"
	"signetd/daemon/client/http1"
	"signetd/signer"
)

// SignJWT asks for a JWT. The daemon applies the claim policy of the key.
func (c *Client) SignJWT(ctx context.Context, req api.SignJWTRequest) (*api.SignJWTResponse, error) {
	return post(ctx, c, api.SignJWT, &req, req.Key, "")
}

// VerifyJWT returns the claims of a token that is valid now. A token that is not valid
// gives signer.ErrInvalid.
func (c *Client) VerifyJWT(ctx context.Context, req api.VerifyJWTRequest) (*api.VerifyJWTResponse, error) {
	return post(ctx, c, api.VerifyJWT, &req, "", kidOf(req.Token))
}

// SealJWT asks for a JWT that is signed and then encrypted for a recipient.
func (c *Client) SealJWT(ctx context.Context, req api.SealJWTRequest) (*api.SealJWTResponse, error) {
	return post(ctx, c, api.SealJWT, &req, req.Key, req.To)
}

// OpenJWT decrypts a JWT made by SealJWT and returns the claims of the token in it. If it
// cannot be decrypted the error is signer.ErrDecrypt; if the token is not valid,
// signer.ErrInvalid.
func (c *Client) OpenJWT(ctx context.Context, req api.OpenJWTRequest) (*api.OpenJWTResponse, error) {
	return post(ctx, c, api.OpenJWT, &req, req.Key, kidOf(req.Token))
}

// SignJWS asks for a JWS over any payload.
func (c *Client) SignJWS(ctx context.Context, req api.SignJWSRequest) (*api.SignJWSResponse, error) {
	return post(ctx, c, api.SignJWS, &req, req.Key, "")
}

// VerifyJWS returns the payload of a JWS that a key of the daemon, or of an issuer that it
// trusts, has signed. Any other JWS gives signer.ErrInvalid.
func (c *Client) VerifyJWS(ctx context.Context, req api.VerifyJWSRequest) (*api.VerifyJWSResponse, error) {
	return post(ctx, c, api.VerifyJWS, &req, req.Key, kidOf(req.JWS))
}

// SignDigest asks for a bare signature. [Client.Signer] wraps it.
func (c *Client) SignDigest(ctx context.Context, req api.SignDigestRequest) (*api.SignDigestResponse, error) {
	return post(ctx, c, api.SignDigest, &req, req.Key, req.KID)
}

// UnwrapCEK asks for a content encryption key. The caller clears it after use.
// [Client.Decrypter] wraps it.
func (c *Client) UnwrapCEK(ctx context.Context, req api.UnwrapCEKRequest) (*api.UnwrapCEKResponse, error) {
	return post(ctx, c, api.UnwrapCEK, &req, req.Key, req.KID)
}

// DecryptJWE opens a JWE. Whatever is wrong with it, the error is signer.ErrDecrypt.
func (c *Client) DecryptJWE(ctx context.Context, req api.DecryptJWERequest) (*api.DecryptJWEResponse, error) {
	return post(ctx, c, api.DecryptJWE, &req, req.Key, kidOf(req.JWE))
}

// EncryptJWE makes a JWE for a key of the daemon, a configured recipient or a public key.
func (c *Client) EncryptJWE(ctx context.Context, req api.EncryptJWERequest) (*api.EncryptJWEResponse, error) {
	return post(ctx, c, api.EncryptJWE, &req, req.Key, "")
}

// SignMAC asks for a bare MAC.
func (c *Client) SignMAC(ctx context.Context, req api.SignMACRequest) (*api.SignMACResponse, error) {
	return post(ctx, c, api.SignMAC, &req, req.Key, req.KID)
}

// VerifyMAC says which version of a key made a MAC. A MAC that is wrong gives
// signer.ErrInvalid.
func (c *Client) VerifyMAC(ctx context.Context, req api.VerifyMACRequest) (*api.VerifyMACResponse, error) {
	return post(ctx, c, api.VerifyMAC, &req, req.Key, req.KID)
}

// WrapKey wraps a key of any kind with a key of the daemon.
func (c *Client) WrapKey(ctx context.Context, req api.WrapKeyRequest) (*api.WrapKeyResponse, error) {
	return post(ctx, c, api.WrapKey, &req, req.Key, "")
}

// UnwrapKey undoes WrapKey. The caller clears the key after use. Whatever is wrong with
// the wrapped key, the error is signer.ErrDecrypt.
func (c *Client) UnwrapKey(ctx context.Context, req api.UnwrapKeyRequest) (*api.UnwrapKeyResponse, error) {
	return post(ctx, c, api.UnwrapKey, &req, req.Key, req.KID)
}

// Keys lists the keys on which this process has a grant.
func (c *Client) Keys(ctx context.Context) (*api.Keys, error) {
	return get(ctx, c, api.ListKeys, api.ListKeys.Path)
}

// Key describes one key. Without a grant on it the error is signer.ErrDenied, whether or
// not the key exists.
func (c *Client) Key(ctx context.Context, name string) (*api.Key, error) {
	if name == "" {
		return nil, fmt.Errorf("%w: the name of the key is empty", signer.ErrInvalid)
	}
	return get(ctx, c, api.GetKey, strings.Replace(api.GetKey.Path, "{name}", url.PathEscape(name), 1))
}

// JWKS returns the public keys on which this process has a grant (RFC 7517 section 5).
func (c *Client) JWKS(ctx context.Context) (*signer.JWKSet, error) {
	return get(ctx, c, api.GetJWKS, api.GetJWKS.Path)
}

// Health asks whether the daemon is running.
func (c *Client) Health(ctx context.Context) (*api.Health, error) {
	return get(ctx, c, api.GetHealth, api.GetHealth.Path)
}

// Ready asks whether every backend of the daemon answers. That the daemon is not ready is
// not an error: the result says so.
func (c *Client) Ready(ctx context.Context) (*api.Ready, error) {
	call, err := c.exchange(ctx, api.GetReady.Method, http1.RouteKey{Path: api.GetReady.Path}, nil)
	if err != nil {
		return nil, err
	}

	// Probes that look at the status alone get 503 from a daemon that is not ready. The
	// body is the same as with 200.
	if call.Answer.Status == http.StatusServiceUnavailable {
		if ready, err := decode[api.Ready](call.Answer.Body); err == nil && ready.Backends != nil {
			call.Free()
			return ready, nil
		}
	}
	return answerOf[api.Ready](call)
}

// Version asks for the version of the daemon.
func (c *Client) Version(ctx context.Context) (*api.Version, error) {
	return get(ctx, c, api.GetVersion, api.GetVersion.Path)
}

// Reload asks the daemon to read its config again. It returns when the new config is in
// force, or with the reason why the daemon keeps the old one.
func (c *Client) Reload(ctx context.Context) (*api.Reloaded, error) {
	return post(ctx, c, api.ReloadConfig, &api.Reload{}, "", "")
}

// kidOf returns the kid in the protected header of a token in compact form, or "" if it
// does not see one. It only decides which calls share a connection.
func kidOf(token string) string {
	header, _, ok := strings.Cut(token, ".")
	var buffer [512]byte
	if !ok || base64.RawURLEncoding.DecodedLen(len(header)) > len(buffer) {
		return ""
	}
	decoded, err := base64.RawURLEncoding.AppendDecode(buffer[:0], []byte(header))
	if err != nil {
		return ""
	}
	_, rest, _ := bytes.Cut(decoded, []byte(`"kid":"`))
	kid, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(kid)
}
