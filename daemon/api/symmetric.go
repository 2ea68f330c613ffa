package api

// SignMACRequest asks for a bare MAC over a message, with a key for HMAC.
type SignMACRequest struct {
	Key     string `json:"key"`
	KID     string `json:"kid,omitempty"` // the active version if absent
	Alg     string `json:"alg,omitempty"` // HS256, HS384 or HS512; the key's first if absent
	Message Bytes  `json:"message"`
}

// SignMACResponse holds the MAC, as long as the hash of the algorithm.
type SignMACResponse struct {
	MAC Bytes  `json:"mac"`
	KID string `json:"kid"`
}

// VerifyMACRequest asks whether a MAC is one of a key. A version that is not named
// may be any of the key's.
type VerifyMACRequest struct {
	Key     string `json:"key"`
	KID     string `json:"kid,omitempty"`
	Alg     string `json:"alg,omitempty"`
	Message Bytes  `json:"message"`
	MAC     Bytes  `json:"mac"` // of full length
}

// VerifyMACResponse says which version made the MAC. A MAC that is wrong is no
// answer but an error, invalid.
type VerifyMACResponse struct {
	KID string `json:"kid"`
}

// The forms of AES key wrap.
const (
	FormRFC3394 = "rfc3394" // a multiple of 8 bytes, 16 or more
	FormRFC5649 = "rfc5649" // with padding: 1 byte or more
)

// WrapKeyRequest asks to wrap a key, of whatever kind, with one of the daemon's.
type WrapKeyRequest struct {
	Key      string `json:"key"`
	Alg      string `json:"alg,omitempty"`  // A128KW, A192KW, A256KW, RSA-OAEP and so on; the key's first if absent
	Form     string `json:"form,omitempty"` // of A*KW: rfc3394 (if absent) or rfc5649
	PlainKey Bytes  `json:"plain_key"`
}

// WrapKeyResponse holds the wrapped key.
type WrapKeyResponse struct {
	EncryptedKey Bytes  `json:"encrypted_key"`
	KID          string `json:"kid"`
	Alg          string `json:"alg"`
}

// UnwrapKeyRequest undoes [WrapKeyRequest].
type UnwrapKeyRequest struct {
	Key          string `json:"key"`
	KID          string `json:"kid,omitempty"` // the active version if absent
	Alg          string `json:"alg,omitempty"`
	Form         string `json:"form,omitempty"`
	EncryptedKey Bytes  `json:"encrypted_key"`
}

// UnwrapKeyResponse holds the key in clear.
type UnwrapKeyResponse struct {
	PlainKey Bytes  `json:"plain_key"`
	KID      string `json:"kid"`
}
