package policy

// secretNames are the names of members that hold secrets, or numbers that open an
// account. Anybody who sees a signed token can read them. They are in the form that
// [normalize] returns.
var secretNames = []string{
	"password", "passwd", "passphrase", "passcode", "passwordhash", "pwd", "pin", "pincode", "otp", "totpsecret", "mfasecret",
	"secret", "secretkey", "privatekey", "apikey", "apitoken", "encryptionkey", "signingkey", "masterkey", "credentials",
	"accesskey", "secretaccesskey", "accesstoken", "refreshtoken", "sessiontoken", "sessioncookie", "idtoken", "bearertoken",
	"ssn", "socialsecurity", "socialsecuritynumber", "socialinsurancenumber", "nationalinsurancenumber", "passportnumber", "taxid",
	"creditcard", "debitcard", "creditcardnumber", "cardnumber", "cardno", "ccnumber", "ccnum", "pan", "cvv", "cvv2", "cvc", "cvc2",
	"cardverificationcode", "cardverificationvalue", "securitycode", "bankaccountnumber",
}

// secretEndings make a secret of every name that ends in one of them: "dbPassword",
// "client_secret".
var secretEndings = []string{"password", "passwd", "passphrase", "secret", "privatekey", "apikey", "cardnumber"}

// A secretSet tells which names are those of secrets.
type secretSet struct {
	names   map[string]bool // true for a secret; false for a name that the config declares harmless
	endings []string
}

// newSecretSet returns the set of the usual names, with more and without others.
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

// find returns the entry of the set that makes a normalized name one of a secret, or "".
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

// lastSegment returns the last part of a name in a namespace: "password" of
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
