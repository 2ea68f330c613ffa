package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"signetd/daemon/api"
	"signetd/signer"
)

// SignJWT asks for a JWT with the key's claim policy applied.
func (c *Client) SignJWT(ctx context.Context, req api.SignJWTRequest) (*api.SignJWTResponse, error) {
	return post[api.SignJWTResponse](ctx, c, lane{api.SignJWT.Path, req.Key, ""}, req)
}

// VerifyJWT returns the claims of a token that is valid now. One that is not gives
// signer.ErrInvalid.
func (c *Client) VerifyJWT(ctx context.Context, req api.VerifyJWTRequest) (*api.VerifyJWTResponse, error) {
	return post[api.VerifyJWTResponse](ctx, c, lane{api.VerifyJWT.Path, "", kidOf(req.Token)}, req)
}

// SealJWT asks for a JWT that is signed and then encrypted for a recipient.
func (c *Client) SealJWT(ctx context.Context, req api.SealJWTRequest) (*api.SealJWTResponse, error) {
	return post[api.SealJWTResponse](ctx, c, lane{api.SealJWT.Path, req.Key, req.To}, req)
}

// OpenJWT opens such a JWT and returns the claims of the token in it. What does not
// open gives signer.ErrDecrypt, and a token that is not valid signer.ErrInvalid.
func (c *Client) OpenJWT(ctx context.Context, req api.OpenJWTRequest) (*api.OpenJWTResponse, error) {
	return post[api.OpenJWTResponse](ctx, c, lane{api.OpenJWT.Path, req.Key, kidOf(req.Token)}, req)
}

// VerifyJWS returns the payload of a JWS that one of the daemon's keys, or of a
// trusted issuer's, signed. Another gives signer.ErrInvalid.
func (c *Client) VerifyJWS(ctx context.Context, req api.VerifyJWSRequest) (*api.VerifyJWSResponse, error) {
	return post[api.VerifyJWSResponse](ctx, c, lane{api.VerifyJWS.Path, req.Key, kidOf(req.JWS)}, req)
}

// SignJWS asks for a JWS over any payload.
func (c *Client) SignJWS(ctx context.Context, req api.SignJWSRequest) (*api.SignJWSResponse, error) {
	return post[api.SignJWSResponse](ctx, c, lane{api.SignJWS.Path, req.Key, ""}, req)
}

// SignDigest asks for a bare signature. [Client.Signer] wraps it.
func (c *Client) SignDigest(ctx context.Context, req api.SignDigestRequest) (*api.SignDigestResponse, error) {
	return post[api.SignDigestResponse](ctx, c, lane{api.SignDigest.Path, req.Key, req.KID}, req)
}

// UnwrapCEK asks for a content encryption key, which the caller clears when done.
// [Client.Decrypter] wraps it.
func (c *Client) UnwrapCEK(ctx context.Context, req api.UnwrapCEKRequest) (*api.UnwrapCEKResponse, error) {
	return post[api.UnwrapCEKResponse](ctx, c, lane{api.UnwrapCEK.Path, req.Key, req.KID}, req)
}

// DecryptJWE opens a JWE. Whatever is wrong with it, the error is
// signer.ErrDecrypt.
func (c *Client) DecryptJWE(ctx context.Context, req api.DecryptJWERequest) (*api.DecryptJWEResponse, error) {
	return post[api.DecryptJWEResponse](ctx, c, lane{api.DecryptJWE.Path, req.Key, kidOf(req.JWE)}, req)
}

// EncryptJWE makes a JWE to one of the daemon's keys or to a public key.
func (c *Client) EncryptJWE(ctx context.Context, req api.EncryptJWERequest) (*api.EncryptJWEResponse, error) {
	return post[api.EncryptJWEResponse](ctx, c, lane{api.EncryptJWE.Path, req.Key, ""}, req)
}

// SignMAC asks for a bare MAC.
func (c *Client) SignMAC(ctx context.Context, req api.SignMACRequest) (*api.SignMACResponse, error) {
	return post[api.SignMACResponse](ctx, c, lane{api.SignMAC.Path, req.Key, req.KID}, req)
}

// VerifyMAC says which version of a key made a MAC. One that is wrong gives
// signer.ErrInvalid.
func (c *Client) VerifyMAC(ctx context.Context, req api.VerifyMACRequest) (*api.VerifyMACResponse, error) {
	return post[api.VerifyMACResponse](ctx, c, lane{api.VerifyMAC.Path, req.Key, req.KID}, req)
}

// WrapKey wraps a key of whatever kind with one of the daemon's.
func (c *Client) WrapKey(ctx context.Context, req api.WrapKeyRequest) (*api.WrapKeyResponse, error) {
	return post[api.WrapKeyResponse](ctx, c, lane{api.WrapKey.Path, req.Key, ""}, req)
}

// UnwrapKey undoes WrapKey. The caller clears the key when done. Whatever is wrong
// with the wrapped key, the error is signer.ErrDecrypt.
func (c *Client) UnwrapKey(ctx context.Context, req api.UnwrapKeyRequest) (*api.UnwrapKeyResponse, error) {
	return post[api.UnwrapKeyResponse](ctx, c, lane{api.UnwrapKey.Path, req.Key, req.KID}, req)
}

// Keys lists the keys on which this process has a grant.
func (c *Client) Keys(ctx context.Context) (*api.Keys, error) {
	return get[api.Keys](ctx, c, api.ListKeys.Path)
}

// Key describes one key. Without a grant on it the error is signer.ErrDenied,
// whether it exists or not.
func (c *Client) Key(ctx context.Context, name string) (*api.Key, error) {
	if name == "" {
		return nil, fmt.Errorf("%w: no key is named", signer.ErrInvalid)
	}
	return get[api.Key](ctx, c, api.ListKeys.Path+"/"+url.PathEscape(name))
}

// JWKS returns the public keys on which this process has a grant (RFC 7517
// section 5).
func (c *Client) JWKS(ctx context.Context) (*signer.JWKSet, error) {
	return get[signer.JWKSet](ctx, c, api.GetJWKS.Path)
}

// Health asks whether the daemon lives.
func (c *Client) Health(ctx context.Context) (*api.Health, error) {
	return get[api.Health](ctx, c, api.GetHealth.Path)
}

// Ready asks whether every backend of the daemon answers. A daemon that is not
// ready is no error: see the result.
func (c *Client) Ready(ctx context.Context) (*api.Ready, error) {
	a, err := c.exchange(ctx, lane{path: api.GetReady.Path}, nil)
	if err != nil {
		return nil, err
	}
	defer a.free()
	var ready api.Ready
	// Probes that look at the status alone want 503; the body is the same.
	if a.status == http.StatusServiceUnavailable && a.decode(&ready) == nil && ready.Backends != nil {
		return &ready, nil
	}
	if a.status != http.StatusOK {
		return nil, a.refusal()
	}
	return &ready, a.decode(&ready)
}

// Version asks which build answers.
func (c *Client) Version(ctx context.Context) (*api.Version, error) {
	return get[api.Version](ctx, c, api.GetVersion.Path)
}

// Reload asks the daemon to read its config again. It returns when the new config
// is in force, or with the reason why it is not and the old one stays.
func (c *Client) Reload(ctx context.Context) (*api.Reloaded, error) {
	return post[api.Reloaded](ctx, c, lane{path: api.ReloadConfig.Path}, api.Reload{})
}

func get[Answer any](ctx context.Context, c *Client, path string) (*Answer, error) {
	return post[Answer](ctx, c, lane{path: path}, nil)
}

func post[Answer any](ctx context.Context, c *Client, l lane, req any) (*Answer, error) {
	var a Answer
	if err := c.call(ctx, l, req, &a); err != nil {
		return nil, err
	}
	return &a, nil
}
