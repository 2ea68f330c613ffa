//go:build linux && cgo

package main

import (
	"fmt"
	"strings"

	"signetd/backends/pkcs11/provision"
)

// A keySpec is a key of the token that a daemon serves. Its label is its name.
type keySpec struct {
	Label      string
	Alg        string // of JOSE
	Unverified bool   // its signatures leave without having been verified
	Enc        bool   // it opens JWEs
}

const unverifiedSuffix = "-unverified"

// signAlgs are the algorithms whose signatures are measured.
var signAlgs = []string{"ES256", "RS256", "PS256", "EdDSA"}

const oaep = "RSA-OAEP-256"

// verified and unverified are the labels of an algorithm's two keys: one whose
// signatures are verified before they leave, and one whose are not.
func verified(alg string) string   { return strings.ToLower(alg) }
func unverified(alg string) string { return verified(alg) + unverifiedSuffix }

// inbox is the key that opens JWEs.
const inbox = "inbox"

// tenKeys are the keys of a usual daemon.
func tenKeys() (list []keySpec) {
	for _, alg := range signAlgs {
		list = append(list, keySpec{Label: verified(alg), Alg: alg}, keySpec{Label: unverified(alg), Alg: alg, Unverified: true})
	}
	return append(list, keySpec{Label: "spare", Alg: "ES256"}, keySpec{Label: inbox, Alg: oaep, Enc: true})
}

// The large daemon's keys, and the objects in its token: two for each key pair.
const (
	largeKeys    = 200
	largeObjects = 1000
)

// largeLabels are the labels of the key pairs that a large token has beside the ten.
func largeLabels() (list []string) {
	for i := len(tenKeys()); i < largeObjects/2; i++ {
		list = append(list, fmt.Sprintf("more-%03d", i))
	}
	return list
}

// manyKeys are the keys of a large daemon.
func manyKeys() []keySpec {
	list := tenKeys()
	for _, label := range largeLabels()[:largeKeys-len(list)] {
		list = append(list, keySpec{Label: label, Alg: "ES256"})
	}
	return list
}

// keyTypes are what the keys of each algorithm are made as.
var keyTypes = map[string]provision.KeyType{
	"ES256": provision.ECP256, "RS256": provision.RSA2048, "PS256": provision.RSA2048, "EdDSA": provision.Ed25519, oaep: provision.RSA2048,
}
