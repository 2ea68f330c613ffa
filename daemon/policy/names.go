package policy

import (
	"unicode"
	"unicode/utf8"
)

// secretNames are the names of members that hold secrets, and of numbers that
// open an account: a JWS payload is a postcard. They stand as normalize has them.
var secretNames = []string{
	"password", "passwd", "passphrase", "passcode", "passwordhash", "pwd", "pin", "pincode", "otp", "totpsecret", "mfasecret",
	"secret", "secretkey", "privatekey", "apikey", "apitoken", "encryptionkey", "signingkey", "masterkey", "credentials",
	"accesskey", "secretaccesskey", "accesstoken", "refreshtoken", "sessiontoken", "sessioncookie", "idtoken", "bearertoken",
	"ssn", "socialsecurity", "socialsecuritynumber", "socialinsurancenumber", "nationalinsurancenumber", "passportnumber", "taxid",
	"creditcard", "debitcard", "creditcardnumber", "cardnumber", "cardno", "ccnumber", "ccnum", "pan", "cvv", "cvv2", "cvc", "cvc2",
	"cardverificationcode", "cardverificationvalue", "securitycode", "bankaccountnumber",
}

// secretEndings are the endings of such names: "dbPassword", "client_secret".
var secretEndings = []string{"password", "passwd", "passphrase", "secret", "privatekey", "apikey", "cardnumber"}

// appendFolded appends name without the difference between upper and lower case.
// By way of the upper case it also folds letters such as the long s of
// "i\u017fs", which a relying party that ignores case, one with encoding/json
// among them, takes for the s of "iss".
func appendFolded(dst, name []byte) []byte {
	for i := 0; i < len(name); {
		if c := name[i]; c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(name[i:])
		dst = utf8.AppendRune(dst, unicode.ToLower(unicode.ToUpper(r)))
		i += n
	}
	return dst
}

// appendNormalized appends a folded name without what people put between its
// words, so that credit_card, "Credit Card" and creditCard are one.
func appendNormalized(dst, folded []byte) []byte {
	for _, c := range folded {
		switch c {
		case '_', '-', '.', ' ':
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func normalize(name string) string {
	return string(appendNormalized(nil, appendFolded(nil, []byte(name))))
}

// lastSegment is what a name in a namespace ends in: "password" of
// "https://example.com/password".
func lastSegment(normal []byte) []byte {
	end := len(normal)
	for end > 0 && separates(normal[end-1]) {
		end--
	}
	from := end
	for from > 0 && !separates(normal[from-1]) {
		from--
	}
	return normal[from:end]
}

func separates(c byte) bool { return c == '/' || c == ':' || c == '#' }

// secretSet says which names are those of secrets.
type secretSet struct {
	names   map[string]bool // true for a secret, false for one that the config says is none
	endings []string
}

// newSecretSet is the names above with more and without others.
func newSecretSet(more, without []string) *secretSet {
	s := &secretSet{names: make(map[string]bool, len(secretNames)+len(more)+len(without)), endings: secretEndings}
	for _, name := range secretNames {
		s.names[name] = true
	}
	for _, name := range without {
		s.names[normalize(name)] = false
	}
	for _, name := range more {
		s.names[normalize(name)] = true
	}
	return s
}

// find returns by which name a normalized one is that of a secret, or "".
func (s *secretSet) find(normal []byte) string {
	last := lastSegment(normal)
	for _, name := range [][]byte{normal, last} {
		if secret, ok := s.names[string(name)]; ok {
			if !secret {
				return ""
			}
			return string(name)
		}
	}
	for _, ending := range s.endings {
		if len(last) >= len(ending) && string(last[len(last)-len(ending):]) == ending {
			return ending
		}
	}
	return ""
}
