//go:build linux && cgo

package main

import (
	"fmt"
	"strings"

	"signetd/backends/pkcs11/provision"
	"signetd/softhsm/bench/report"
)

// A keySpec is a key of the token that a daemon serves. Its label is its name.
type keySpec struct {
	Label      string
	Alg        string // of JOSE
	Unverified bool   // signatures are not verified before they leave
	Enc        bool   // it decrypts JWEs
}

// verified and unverified return the labels of an algorithm's two keys: the one whose
// signatures are verified before they leave, and the other.
func verified(alg string) string   { return strings.ToLower(alg) }
func unverified(alg string) string { return verified(alg) + "-unverified" }

// inbox is the key that decrypts JWEs.
const inbox = "inbox"

// tenKeys are the keys of a usual daemon.
func tenKeys() (list []keySpec) {
	for _, alg := range report.SignAlgs {
		list = append(list, keySpec{Label: verified(alg), Alg: alg}, keySpec{Label: unverified(alg), Alg: alg, Unverified: true})
	}
	return append(list, keySpec{Label: "spare", Alg: "ES256"}, keySpec{Label: inbox, Alg: report.OAEP, Enc: true})
}

// largeObjects is the number of objects in the large token, two for each key pair.
const largeObjects = 1000

// largeLabels are the labels of the key pairs that the large token has beside the ten.
func largeLabels() (list []string) {
	for i := len(tenKeys()); i < largeObjects/2; i++ {
		list = append(list, fmt.Sprintf("more-%03d", i))
	}
	return list
}

// manyKeys are the keys of a large daemon.
func manyKeys() []keySpec {
	list := tenKeys()
	for _, label := range largeLabels()[:report.LargeKeys-len(list)] {
		list = append(list, keySpec{Label: label, Alg: "ES256"})
	}
	return list
}

// keyTypes are the types of the keys that each algorithm gets.
var keyTypes = map[string]provision.KeyType{
	"ES256": provision.ECP256, "RS256": provision.RSA2048, "PS256": provision.RSA2048, "EdDSA": provision.Ed25519, report.OAEP: provision.RSA2048,
}
