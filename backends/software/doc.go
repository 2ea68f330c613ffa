// Package software holds private keys in the memory of the process: for
// `signetd dev`, laptops and tests. They are not hardware keys. A config file
// that names this backend must also say `insecure_software_keys: true`.
//
// A ref is either the absolute path of a file, PEM (PKCS #8, PKCS #1 or SEC 1,
// not encrypted) or JWK (RFC 7517), or "generate:TYPE" with an optional
// ":LABEL", which makes a key that lives as long as the backend: the same ref
// gives the same key. TYPE is one of ec-p256, ec-p384, ec-p521, rsa-2048,
// rsa-3072 and rsa-4096.
package software
