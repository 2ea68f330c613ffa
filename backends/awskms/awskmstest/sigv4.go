package awskmstest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	sigAlgorithm = "AWS4-HMAC-SHA256"
	sigService   = "kms"
	sigTime      = "20060102T150405Z"
	maxSkew      = 5 * time.Minute
)

// A sigHeader is the Authorization header of a signed request.
type sigHeader struct {
	accessKeyID           string
	date, region, service string
	signed                []string // names of headers, in lower case
	signature             string
}

// authenticate checks the signature of a request (AWS Signature Version 4). The messages
// are those of AWS where clients read them.
func (s *Server) authenticate(r *http.Request, body []byte) *Problem {
	s.mu.Lock()
	config, now := s.config, s.now()
	s.mu.Unlock()

	if r.Header.Get("Authorization") == "" {
		return problem("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	h, ok := parseAuthorization(r.Header.Values("Authorization"))
	if !ok {
		return problem("IncompleteSignatureException", "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.")
	}

	if h.accessKeyID != config.AccessKeyID {
		return problem("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if tokens := r.Header.Values("X-Amz-Security-Token"); strings.Join(tokens, ",") != config.SessionToken {
		return problem("UnrecognizedClientException", "The security token included in the request is invalid.")
	}

	if h.region != config.Region {
		return problem("InvalidSignatureException", fmt.Sprintf("Credential should be scoped to a valid region, not '%s'.", h.region))
	}
	if h.service != sigService {
		return problem("InvalidSignatureException", fmt.Sprintf("Credential should be scoped to correct service: '%s'.", sigService))
	}

	if p := checkTime(r.Header.Get("X-Amz-Date"), h.date, now); p != nil {
		return p
	}
	if p := checkSigned(r, h.signed); p != nil {
		return p
	}
	if sum := r.Header.Get("X-Amz-Content-Sha256"); sum != "" && sum != hexSum(body) {
		return problem("InvalidSignatureException", "The value of x-amz-content-sha256 does not match the body.")
	}

	want := h.sign(config.SecretAccessKey, r, body)
	if !hmac.Equal([]byte(want), []byte(h.signature)) {
		return problem("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

func parseAuthorization(values []string) (h sigHeader, ok bool) {
	if len(values) != 1 {
		return h, false
	}
	rest, ok := strings.CutPrefix(values[0], sigAlgorithm+" ")
	if !ok {
		return h, false
	}

	parts := strings.Split(rest, ",")
	if len(parts) != 3 {
		return h, false
	}
	for i, name := range []string{"Credential=", "SignedHeaders=", "Signature="} {
		if parts[i], ok = strings.CutPrefix(strings.TrimSpace(parts[i]), name); !ok {
			return h, false
		}
	}

	scope := strings.Split(parts[0], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" {
		return h, false
	}
	return sigHeader{scope[0], scope[1], scope[2], scope[3], strings.Split(parts[1], ";"), parts[2]}, true
}

// checkTime returns an error unless the time of a signature is on the day of its scope
// and near the clock's.
func checkTime(text, day string, now time.Time) *Problem {
	at, err := time.Parse(sigTime, text)
	if err != nil || at.Format("20060102") != day {
		return problem("IncompleteSignatureException", "Date must be in ISO-8601 'basic format', and that of the credential's scope.")
	}

	now = now.UTC()
	switch {
	case at.Before(now.Add(-maxSkew)):
		return problem("InvalidSignatureException", fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 5 min.)", text, now.Add(-maxSkew).Format(sigTime), now.Format(sigTime)))
	case at.After(now.Add(maxSkew)):
		return problem("InvalidSignatureException", fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 5 min.)", text, now.Add(maxSkew).Format(sigTime), now.Format(sigTime)))
	}
	return nil
}

// checkSigned returns an error unless host, Content-Type and every header of AWS are
// signed, with their names sorted and each of them once.
func checkSigned(r *http.Request, signed []string) *Problem {
	if !slices.IsSorted(signed) || len(slices.Compact(slices.Clone(signed))) != len(signed) {
		return problem("IncompleteSignatureException", "SignedHeaders are not sorted, or have a name twice.")
	}

	needed := []string{"host"}
	for name := range r.Header {
		if name = strings.ToLower(name); name == "content-type" || strings.HasPrefix(name, "x-amz-") {
			needed = append(needed, name)
		}
	}

	for _, name := range needed {
		if !slices.Contains(signed, name) {
			return problem("InvalidSignatureException", fmt.Sprintf("'%s' must be a signed header in the AWS Authorization.", name))
		}
	}
	return nil
}

// sign returns the right signature of a request.
func (h sigHeader) sign(secret string, r *http.Request, body []byte) string {
	var canonical strings.Builder
	canonical.WriteString("POST\n/\n\n") // operation has refused everything else
	for _, name := range h.signed {
		canonical.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	canonical.WriteString("\n" + strings.Join(h.signed, ";") + "\n" + hexSum(body))

	scope := strings.Join([]string{h.date, h.region, h.service, "aws4_request"}, "/")
	text := strings.Join([]string{sigAlgorithm, r.Header.Get("X-Amz-Date"), scope, hexSum([]byte(canonical.String()))}, "\n")

	key := []byte("AWS4" + secret)
	for _, part := range []string{h.date, h.region, h.service, "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// headerValue returns a header in its canonical form: the values with a comma between
// them, and one space for each run of spaces. net/http keeps two headers elsewhere.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return fmt.Sprint(r.ContentLength)
	}

	var values []string
	for _, v := range r.Header.Values(name) {
		values = append(values, strings.Join(strings.Fields(v), " "))
	}
	return strings.Join(values, ",")
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
