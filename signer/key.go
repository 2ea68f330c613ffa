package signer

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"time"
)

// A Key is one version of a private or secret key held by a [Backend]. It also has those of
// the interfaces below that its hardware can serve, and no others.
type Key interface {
	// Public returns the public half: an *rsa.PublicKey, an *ecdsa.PublicKey (on
	// [Secp256k1], too), an ed25519.PublicKey or an *[AKP]. A symmetric key has none, and
	// returns a [Secret] that describes it. It was read when the key was opened: no
	// I/O, no failure.
	Public() crypto.PublicKey
}

// A Secret describes a symmetric key, in the place of the public half of a key pair. It holds
// nothing of the key itself.
type Secret struct {
	Type SecretType
	Size int // of the key in bytes
}

// A SecretType is what a symmetric key is for.
type SecretType string

// The types of symmetric key.
const (
	SecretHMAC SecretType = "HMAC" // HS256, HS384 and HS512
	SecretAES  SecretType = "AES"  // A*KW, A*GCMKW and dir
	SecretBlob SecretType = "blob" // of a cloud KMS: it encrypts in a form of its own, see [BlobCipher]
)

// A Signer is a [Key] that signs. It is safe for concurrent use.
type Signer interface {
	Key
	crypto.Signer
	// SignContext is [crypto.Signer.Sign] with a deadline and without a source of
	// randomness, which the hardware brings along. opts is a [crypto.Hash] for
	// PKCS #1 v1.5 and ECDSA, an *rsa.PSSOptions for PSS, and crypto.Hash(0) for
	// Ed25519 and ML-DSA, which sign the message itself in the place of a digest (RFC 8032
	// section 5.1). The result is what crypto.Signer promises: ASN.1 DER for ECDSA,
	// as long as the modulus for RSA, 64 bytes for Ed25519.
	//
	// If ctx ends first it returns ctx.Err() at once, even if a call into the hardware
	// goes on. Other errors: ErrInvalid for a digest of the wrong length, ErrUnsupported
	// for opts that do not fit the key, ErrUnavailable when the backend is closed or
	// does not answer.
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

// A Decrypter is a [Key] that decrypts with RSA-OAEP. It is safe for concurrent
// use.
type Decrypter interface {
	Key
	crypto.Decrypter
	// DecryptContext decrypts a ciphertext that is as long as the modulus. opts is
	// an *rsa.OAEPOptions without a label, whose MGF hash is the OAEP hash.
	//
	// A ciphertext that does not decrypt gives ErrDecrypt and nothing else: a reason
	// would be an oracle. Errors that do not depend on the content of the ciphertext are
	// as for [Signer.SignContext].
	DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error)
}

// A SessionKeyDecrypter is a [Decrypter] that also decrypts with RSAES-PKCS1-v1_5 (RFC 8017
// section 7.2.2) and rejects implicitly: a ciphertext that is wrong shows neither by an
// error nor by the time that it takes.
type SessionKeyDecrypter interface {
	Decrypter
	// DecryptSessionKeyContext returns the key of size bytes in ciphertext, or as many
	// random bytes if the padding, the length of the key or that of the ciphertext is
	// wrong. Errors do not depend on the ciphertext: they are those of
	// [Signer.SignContext].
	DecryptSessionKeyContext(ctx context.Context, ciphertext []byte, size int) ([]byte, error)
}

// A MessageSigner is a [Signer] that may need the message in the place of its digest, for
// hardware that hashes by itself or not at all.
type MessageSigner interface {
	Signer
	// SignMessageContext is [Signer.SignContext] for a message that has not been
	// hashed. It works for every algorithm of the key.
	SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error)
}

// A RawSigner is a [Signer] that returns signatures in the form of JOSE, so that those of
// ECDSA are not turned into DER and back.
type RawSigner interface {
	Signer
	// SignRaw signs with alg. It returns r || s for ECDSA, both as long as the order of
	// the curve (RFC 7518 section 3.4), and for all others what [Signer.SignContext]
	// returns. digest is the message itself if alg has no hash. message is nil if it is not
	// known; hardware that hashes by itself may need it. SignRaw changes neither, and reads
	// neither after it has returned.
	//
	// An alg that does not fit the key is ErrUnsupported. Other errors are as for
	// SignContext.
	SignRaw(ctx context.Context, alg Alg, digest, message []byte) ([]byte, error)
}

// A ContentDecrypter is a [Decrypter] whose hardware can keep the CEK: it unwraps the CEK and
// decrypts the content with it, and only the content leaves.
type ContentDecrypter interface {
	Decrypter
	// HoldsCEK reports whether the key works like that for alg. DecryptContext is
	// ErrUnsupported then.
	HoldsCEK(alg Alg) bool
	// DecryptContent opens c. Errors are as for [Decrypter.DecryptContext]: ErrDecrypt
	// for all that is wrong with c. An enc that the hardware does not have is
	// ErrUnsupported.
	DecryptContent(ctx context.Context, alg Alg, c Content) ([]byte, error)
}

// Content is what a JWE holds for one recipient (RFC 7516 section 2), decoded.
type Content struct {
	EncryptedKey []byte
	Enc          string // A128GCM and so on
	IV           []byte // 12 bytes for GCM
	Ciphertext   []byte
	Tag          []byte // 16 bytes for GCM
	AAD          []byte // the additional authenticated data: of the compact form, the protected header in base64url
}

// A MACer is a [Key] that makes MACs: its Public is a [Secret] of type
// [SecretHMAC]. It is safe for concurrent use.
type MACer interface {
	Key
	// MACContext returns the HMAC of message with hash (RFC 2104, RFC 7518 section
	// 3.2), as long as the hash. Errors are as for [Signer.SignContext].
	MACContext(ctx context.Context, message []byte, hash crypto.Hash) ([]byte, error)
}

// An Agreer is a [Key] on P-256, P-384 or P-521 that agrees on a secret with
// ECDH. It is safe for concurrent use.
type Agreer interface {
	Key
	// AgreeContext returns the shared secret Z: the x-coordinate, as long as the
	// field (NIST SP 800-56A section 5.7.1.2, RFC 7518 section 4.6). The caller
	// clears it. Any error in peer is ErrDecrypt, and so is a peer on another curve.
	AgreeContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error)
}

// A WrapForm is a way to wrap a key with AES.
type WrapForm int

// The forms of AES key wrap.
const (
	WrapRFC3394 WrapForm = iota + 1 // A*KW: a multiple of 8 bytes, 16 or more
	WrapRFC5649                     // with padding: 1 byte or more
)

// A Wrapper is a [Key] that wraps keys with AES: its Public is a [Secret] of type
// [SecretAES]. It is safe for concurrent use.
type Wrapper interface {
	Key
	// WrapContext wraps a key; a length that the form does not take is ErrInvalid.
	WrapContext(ctx context.Context, form WrapForm, key []byte) ([]byte, error)
	// UnwrapContext undoes WrapContext. Any error in wrapped is ErrDecrypt.
	UnwrapContext(ctx context.Context, form WrapForm, wrapped []byte) ([]byte, error)
}

// An AEAD is a [Key] that encrypts with AES-GCM: its Public is a [Secret] of type
// [SecretAES]. It is safe for concurrent use.
type AEAD interface {
	Key
	// SealContext encrypts plaintext under an IV of 12 random bytes, which no two
	// calls share. sealed is the ciphertext with the tag of 16 bytes after it.
	SealContext(ctx context.Context, plaintext, aad []byte) (iv, sealed []byte, err error)
	// OpenContext undoes SealContext. Any error in iv, sealed or aad is ErrDecrypt, and so
	// is an iv of another length, and a sealed that is shorter than a tag.
	OpenContext(ctx context.Context, iv, sealed, aad []byte) ([]byte, error)
}

// A BlobCipher is a [Key] of a cloud KMS that encrypts in a form of its own, which
// no other key opens: its Public is a [Secret] of type [SecretBlob]. It is safe
// for concurrent use.
type BlobCipher interface {
	Key
	// EncryptBlob encrypts plaintext, bound to aad.
	EncryptBlob(ctx context.Context, plaintext, aad []byte) ([]byte, error)
	// DecryptBlob undoes EncryptBlob. Any error in blob or aad is ErrDecrypt.
	DecryptBlob(ctx context.Context, blob, aad []byte) ([]byte, error)
}

// An AlgLister is a [Key] that may not do every algorithm that fits its public half, because
// its token or service lacks a mechanism. A Key that is not an AlgLister does all of them.
type AlgLister interface {
	// Algs returns what the key was found able to do when it was opened.
	Algs() []Alg
}

// A Prover is a [Key] that its backend has proven, with some algorithms at least: when the
// backend opened the key, it used it and checked the result with the public half.
// [Version.Prove] does not repeat that.
type Prover interface {
	// Proven reports whether the backend has proven the key with alg.
	Proven(alg Alg) bool
}

// An AlgExplainer is an [AlgLister] that knows why it lacks an algorithm, so that the error
// at start can say it.
type AlgExplainer interface {
	AlgLister
	// Lacks says why the key cannot do alg, which is not among its Algs.
	Lacks(alg Alg) string
}

// A Describer is a [Key] that can say which key it is, because its ref leaves that open: an
// alias, for example.
type Describer interface {
	// Describe returns a line for operators: the backend's own name of the key, and its
	// type. Peers do not get to see it.
	Describe() string
}

// A Backend opens keys in one place: a PKCS#11 token, or one KMS account and
// region. It is safe for concurrent use.
type Backend interface {
	// OpenKey finds the one key version that ref names; no match (ErrNotFound) or
	// two matches (ErrInvalid) is an error. The form of ref is the backend's own.
	OpenKey(ctx context.Context, ref string) (Key, error)
	// Ping makes one cheap round trip and uses no private key.
	Ping(ctx context.Context) error
	// Close waits for the calls in flight, then logs out. From then on the backend's keys
	// answer ErrUnavailable.
	Close() error
}

// An Expander is a [Backend] whose refs can name more than one key version.
type Expander interface {
	Backend
	// Expand returns the versions that ref names now, the newest first. Errors are as
	// for OpenKey.
	Expand(ctx context.Context, ref string) ([]Expanded, error)
}

// A Dated is a [Key] of an [Expander] that may have been opened by a ref of several
// versions.
type Dated interface {
	Key
	// NotBefore returns when the version was made, or the zero time if the ref names
	// it alone.
	NotBefore() time.Time
}

// An Expanded is one of the versions that a ref stands for.
type Expanded struct {
	Ref       string    // names this version alone
	NotBefore time.Time // when the version was made, or the zero time if that does not matter
}

// A Metered is a [Backend] that reports metrics about itself.
type Metered interface {
	Backend
	// Metrics returns the metrics with their values as of now. Counters begin at zero
	// when the backend is opened.
	Metrics() []Metric
}

// A Metric is one number that a backend reports about itself. The daemon adds the
// backend's name as a label.
type Metric struct {
	Name    string // as in Prometheus, such as signetd_cloud_attempts_total
	Help    string
	Counter bool // whether it only rises; else it is a gauge
	Value   float64

	// Label and LabelValue are a label more, for a metric that comes once for each of
	// several things. Optional.
	Label, LabelValue string
}
