package awskmstest

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	contentType  = "application/x-amz-json-1.1"
	targetPrefix = "TrentService."
)

// A Problem is an error in an answer of AWS KMS.
type Problem struct {
	Code    string // such as NotFoundException
	Message string
}

// Error implements error.
func (p *Problem) Error() string { return p.Code + ": " + p.Message }

func problem(code, message string) *Problem { return &Problem{code, message} }

// invalid returns AWS's error for a member whose value is out of bounds.
func invalid(message string) *Problem { return problem("ValidationException", message) }

// statuses are the HTTP statuses in AWS's model of the API, where they are not 400.
var statuses = map[string]int{
	"AlreadyExistsException":     http.StatusConflict,
	"ConflictException":          http.StatusConflict,
	"DisabledException":          http.StatusConflict,
	"KMSInvalidStateException":   http.StatusConflict,
	"NotFoundException":          http.StatusNotFound,
	"DryRunOperationException":   http.StatusPreconditionFailed,
	"DependencyTimeoutException": http.StatusServiceUnavailable,
	"KMSInternalException":       http.StatusInternalServerError,
	"KeyUnavailableException":    http.StatusInternalServerError,
}

func (p *Problem) status() int {
	if status, ok := statuses[p.Code]; ok {
		return status
	}
	return http.StatusBadRequest
}

// operation reads which operation a request is for.
func operation(r *http.Request) (string, *Problem) {
	target := r.Header.Values("X-Amz-Target")
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/" || r.URL.RawQuery != "":
		return "", problem("UnknownOperationException", "not POST /")
	case r.Header.Get("Content-Type") != contentType:
		return "", problem("UnknownOperationException", "the Content-Type is not "+contentType)
	case len(target) != 1 || !strings.HasPrefix(target[0], targetPrefix):
		return "", problem("UnknownOperationException", "no X-Amz-Target of "+targetPrefix)
	}
	return strings.TrimPrefix(target[0], targetPrefix), nil
}

// decode reads a request strictly: an unknown member and one that comes twice are errors.
// AWS ignores them, but a test wants to know.
func decode(body []byte, in any) *Problem {
	if err := json.Unmarshal(body, in, json.RejectUnknownMembers(true), jsontext.AllowDuplicateNames(false)); err != nil {
		return problem("SerializationException", err.Error())
	}
	return nil
}

func encode(a answer) []byte {
	body, err := json.Marshal(a, json.Deterministic(true))
	if err != nil {
		return []byte(`{"__type":"KMSInternalException","message":"the answer cannot be written as JSON"}`)
	}
	return body
}

func requestID() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
