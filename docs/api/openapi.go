// Package apidoc holds the description of the API, for the tests that hold the
// daemon to it.
package apidoc

import _ "embed" // for the description

// OpenAPI is openapi.yaml, an OpenAPI 3.1 document.
//
//go:embed openapi.yaml
var OpenAPI []byte
