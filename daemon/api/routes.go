package api

import (
	"net/http"

	"signetd/signer"
)

// An Op names an operation: grants allow it, and audit records and metrics name it.
type Op string

// The operations. All but the last three are on a key.
const (
	OpSignJWT    Op = "sign-jwt"    // sign claims that keep the key's rules
	OpSignJWS    Op = "sign-jws"    // sign any payload
	OpSignDigest Op = "sign-digest" // sign a bare digest
	OpSealJWT    Op = "seal-jwt"    // sign claims that keep the key's rules, and encrypt the token
	OpVerify     Op = "verify"      // verify tokens of the key, or of a trusted issuer
	OpVerifyJWS  Op = "verify-jws"  // verify any payload that the key, or a trusted issuer, signed
	OpSignMAC    Op = "mac-sign"    // make a bare MAC
	OpVerifyMAC  Op = "mac-verify"  // verify a bare MAC
	OpDecrypt    Op = "decrypt"     // open a JWE
	OpOpenJWT    Op = "open-jwt"    // open a JWE for the valid token in it
	OpUnwrap     Op = "unwrap"      // be given a CEK
	OpEncrypt    Op = "encrypt"     // encrypt to the key, or to a configured recipient
	OpWrapKey    Op = "wrap-key"    // wrap a key of any kind
	OpUnwrapKey  Op = "unwrap-key"  // be given a key that is wrapped
	OpList       Op = "list"        // see the public half; every other grant on the key allows it too
	OpEncryptJWK Op = "encrypt-jwk" // encrypt to a public key in the request
	OpReload     Op = "reload"      // have the config read again
	OpNone       Op = "none"        // recorded for a request that names no operation; no grant holds it
)

// A Route is one entry of the API. The daemon's table of operations, the operations
// that grants can allow, the client's methods and the tests of the documents are all
// made from these.
type Route struct {
	Method string // http.MethodGet or http.MethodPost
	Path   string // "{name}" at its end stands for the name of a key

	// Op is what the policy is asked for, and what the audit record says. It is empty
	// for a route that uses no key, which needs no grant and leaves no record.
	Op Op
	// Use is what keys must be for, so that a grant may name Op on them. It is empty
	// for keys of any use.
	Use signer.Use
	// Host is set if Op is not on a key but on the daemon itself.
	Host bool
	// Keyless is what the policy is asked for in place of Op if the request brings a
	// public key of its own. It is empty if no request may.
	Keyless Op
}

// An Endpoint is a [Route] with the types of its request's body and of its answer. Q is
// struct{} if the request has no body, and string if it is the name in the path.
type Endpoint[Q, A any] struct{ Route }

// The endpoints of the API.
var (
	SignJWT    = post[SignJWTRequest, SignJWTResponse]("/v1/jwt/sign", OpSignJWT, signer.UseSig)
	VerifyJWT  = post[VerifyJWTRequest, VerifyJWTResponse]("/v1/jwt/verify", OpVerify, signer.UseSig)
	SealJWT    = post[SealJWTRequest, SealJWTResponse]("/v1/jwt/seal", OpSealJWT, signer.UseSig)
	OpenJWT    = post[OpenJWTRequest, OpenJWTResponse]("/v1/jwt/open", OpOpenJWT, signer.UseEnc)
	SignJWS    = post[SignJWSRequest, SignJWSResponse]("/v1/jws/sign", OpSignJWS, signer.UseSig)
	VerifyJWS  = post[VerifyJWSRequest, VerifyJWSResponse]("/v1/jws/verify", OpVerifyJWS, signer.UseSig)
	SignDigest = post[SignDigestRequest, SignDigestResponse]("/v1/digest/sign", OpSignDigest, signer.UseSig)
	UnwrapCEK  = post[UnwrapCEKRequest, UnwrapCEKResponse]("/v1/cek/unwrap", OpUnwrap, signer.UseEnc)
	DecryptJWE = post[DecryptJWERequest, DecryptJWEResponse]("/v1/jwe/decrypt", OpDecrypt, signer.UseEnc)
	EncryptJWE = Endpoint[EncryptJWERequest, EncryptJWEResponse]{Route{
		Method: http.MethodPost, Path: "/v1/jwe/encrypt", Op: OpEncrypt, Use: signer.UseEnc, Keyless: OpEncryptJWK,
	}}
	SignMAC   = post[SignMACRequest, SignMACResponse]("/v1/mac/sign", OpSignMAC, signer.UseSig)
	VerifyMAC = post[VerifyMACRequest, VerifyMACResponse]("/v1/mac/verify", OpVerifyMAC, signer.UseSig)
	WrapKey   = post[WrapKeyRequest, WrapKeyResponse]("/v1/key/wrap", OpWrapKey, signer.UseEnc)
	UnwrapKey = post[UnwrapKeyRequest, UnwrapKeyResponse]("/v1/key/unwrap", OpUnwrapKey, signer.UseEnc)

	ListKeys     = Endpoint[struct{}, Keys]{Route{Method: http.MethodGet, Path: "/v1/keys", Op: OpList}}
	GetKey       = Endpoint[string, Key]{Route{Method: http.MethodGet, Path: "/v1/keys/{name}", Op: OpList}}
	GetJWKS      = Endpoint[struct{}, signer.JWKSet]{Route{Method: http.MethodGet, Path: "/v1/jwks", Op: OpList}}
	GetHealth    = Endpoint[struct{}, Health]{Route{Method: http.MethodGet, Path: "/v1/health"}}
	GetReady     = Endpoint[struct{}, Ready]{Route{Method: http.MethodGet, Path: "/v1/ready"}}
	GetVersion   = Endpoint[struct{}, Version]{Route{Method: http.MethodGet, Path: "/v1/version"}}
	ReloadConfig = Endpoint[Reload, Reloaded]{Route{Method: http.MethodPost, Path: "/v1/admin/reload", Op: OpReload, Host: true}}
)

// Routes are all routes of the API, in the order of the documents.
var Routes = []Route{
	SignJWT.Route, VerifyJWT.Route, SealJWT.Route, OpenJWT.Route,
	SignJWS.Route, VerifyJWS.Route, SignDigest.Route,
	UnwrapCEK.Route, DecryptJWE.Route, EncryptJWE.Route,
	SignMAC.Route, VerifyMAC.Route, WrapKey.Route, UnwrapKey.Route,
	ListKeys.Route, GetKey.Route, GetJWKS.Route,
	GetHealth.Route, GetReady.Route, GetVersion.Route, ReloadConfig.Route,
}

// post is an endpoint of an operation on a key.
func post[Q, A any](path string, op Op, use signer.Use) Endpoint[Q, A] {
	return Endpoint[Q, A]{Route{Method: http.MethodPost, Path: path, Op: op, Use: use}}
}
