package signer

import (
	"crypto"
	"fmt"
)

// A scheme is what the options of [crypto.Signer] and [crypto.Decrypter] say.
type scheme struct {
	family Family
	hash   crypto.Hash
}

// The algorithms by name, and by scheme in the order of the list: each request looks
// several of them up.
var byName, byScheme = index()

func index() (map[Alg]*algorithm, map[scheme][]*algorithm) {
	names, schemes := map[Alg]*algorithm{}, map[scheme][]*algorithm{}
	for i := range algorithms {
		x := &algorithms[i]
		names[x.alg] = x
		schemes[scheme{x.family, x.hash}] = append(schemes[scheme{x.family, x.hash}], x)
	}
	return names, schemes
}

var unknown algorithm

// lookup returns what there is to know of a: nothing, if a is not known.
func (a Alg) lookup() (x *algorithm, ok bool) {
	if x, ok = byName[a]; !ok {
		return &unknown, false
	}
	return x, true
}

// find returns the algorithm of a family and hash that fits pub.
func find(pub crypto.PublicKey, family Family, hash crypto.Hash) (Alg, error) {
	for _, x := range byScheme[scheme{family, hash}] {
		if x.alg.Fits(pub) == nil {
			return x.alg, nil
		}
	}
	return "", fmt.Errorf("%w: no algorithm of JOSE for this key and hash %v", ErrUnsupported, hash)
}
