// Package software holds private keys in the memory of the process: for
// `signetd dev`, laptops and tests. They are not hardware keys. A config file
// that names this backend must also say `insecure_software_keys: true`.
//
// A ref is the absolute path of a file: PEM (PKCS #8, PKCS #1 or SEC 1, not
// encrypted) or JWK (RFC 7517).
//
// Or it is "generate:TYPE" with an optional ":LABEL", which makes a key that lives as
// long as the backend: the same ref gives the same key. TYPE is one of ec-p256,
// ec-p384, ec-p521, ec-secp256k1, ed25519, ml-dsa-44, ml-dsa-65, ml-dsa-87, rsa-2048,
// rsa-3072, rsa-4096, hmac-512, aes-128, aes-192 and aes-256.
package software
