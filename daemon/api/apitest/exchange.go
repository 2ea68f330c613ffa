package apitest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// An Exchange is one request and its answer.
type Exchange struct {
	Method, Path string
	Request      []byte // nothing if there is no body
	Status       int
	Header       http.Header // of the answer
	Response     []byte
}

// Check holds an exchange against the document: the status is one that the
// operation has, the answer is of its form, and a request that was answered with
// 200 is one that the document allows.
func (d *Document) Check(e Exchange) error {
	if err := d.check(e); err != nil {
		return fmt.Errorf("%s %s answered with %d is not as docs/api/openapi.yaml has it: %w", e.Method, e.Path, e.Status, err)
	}
	return nil
}

func (d *Document) check(e Exchange) error {
	path, ok := d.path(e.Path)
	if !ok {
		return d.refusal(e)
	}
	item := object(d.tree, "paths", path)
	op := object(item[strings.ToLower(e.Method)])
	if op == nil {
		return d.refusal(e)
	}

	at := "/paths/" + escape(path) + "/" + strings.ToLower(e.Method)
	if e.Status == http.StatusOK {
		if err := d.request(e, op, at); err != nil {
			return fmt.Errorf("request: %w", err)
		}
	}

	status := strconv.Itoa(e.Status)
	response := object(op, "responses", status)
	if response == nil {
		return fmt.Errorf("the operation has no such status: %s", e.Response)
	}
	pointer := at + "/responses/" + status
	return d.answer(e, response, pointer)
}

// request checks the body of a request that was answered with 200. An item of a batch that
// was refused may be anything.
func (d *Document) request(e Exchange, op map[string]any, at string) error {
	body := object(op["requestBody"])
	switch {
	case body == nil:
		return nil
	case len(e.Request) == 0 && body["required"] == true:
		return errors.New("no body")
	case len(e.Request) == 0:
		return nil
	}

	var several struct{ Batch []json.RawMessage }
	var answers struct{ Results []map[string]json.RawMessage }
	name, batches := request(op)
	if !batches || json.Unmarshal(e.Request, &several) != nil || several.Batch == nil {
		return d.validate(at+"/requestBody/content/application~1json/schema", e.Request)
	}
	if err := json.Unmarshal(e.Response, &answers); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	if len(answers.Results) != len(several.Batch) {
		return fmt.Errorf("%d results for %d requests", len(answers.Results), len(several.Batch))
	}

	for i, item := range several.Batch {
		if _, refused := answers.Results[i]["error"]; refused {
			continue
		}
		if err := d.Valid(name, item); err != nil {
			return fmt.Errorf("batch %d: %w", i, err)
		}
	}
	return nil
}

// refusal checks the answer to a request for which there is no operation.
func (d *Document) refusal(e Exchange) error {
	name, ok := map[int]string{
		http.StatusBadRequest: "Invalid", http.StatusNotFound: "NotFound", http.StatusMethodNotAllowed: "MethodNotAllowed",
		http.StatusTooManyRequests: "Overloaded", http.StatusServiceUnavailable: "Unavailable", http.StatusInternalServerError: "Internal",
	}[e.Status]
	if !ok {
		return fmt.Errorf("there is no such operation, and this is no refusal: %s", e.Response)
	}
	return d.answer(e, object(d.tree, "components", "responses", name), "/components/responses/"+name)
}

// answer checks headers and body against a response object or what it refers to.
func (d *Document) answer(e Exchange, response map[string]any, pointer string) error {
	if ref, ok := response["$ref"].(string); ok {
		pointer = strings.TrimPrefix(ref, "#")
		response = d.at(pointer)
	}

	for name, header := range object(response["headers"]) {
		at := pointer + "/headers/" + name
		h := object(header)
		if ref, ok := h["$ref"].(string); ok {
			at = strings.TrimPrefix(ref, "#")
			h = d.at(at)
		}
		value := e.Header.Get(name)
		if value == "" && h["required"] != true {
			continue
		}
		if err := d.validate(at+"/schema", []byte(strconv.Quote(value))); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
	}

	if got := e.Header.Get("Content-Type"); got != "application/json" {
		return fmt.Errorf("content type %q", got)
	}
	if e.Method == http.MethodHead {
		return nil // it has no body
	}
	if err := d.validate(pointer+"/content/application~1json/schema", e.Response); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// at is the object at a JSON pointer without escapes.
func (d *Document) at(pointer string) map[string]any {
	return object(d.tree, strings.Split(strings.TrimPrefix(pointer, "/"), "/")...)
}

// path returns the path of the document that describes a request's path.
func (d *Document) path(requested string) (string, bool) {
	requested, _, _ = strings.Cut(requested, "?")
	paths := object(d.tree, "paths")
	if _, ok := paths[requested]; ok {
		return requested, true
	}
	for path := range paths {
		prefix, _, ok := strings.Cut(path, "{")
		if name, under := strings.CutPrefix(requested, prefix); ok && under && name != "" {
			return path, true
		}
	}
	return "", false
}

// A Transport checks each exchange that passes. If the exchange is not as the document has
// it, the request fails.
type Transport struct{ Base http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	d, err := Load()
	if err != nil {
		return nil, err
	}

	e := Exchange{Method: req.Method, Path: req.URL.Path}
	if req.Body != nil {
		if e.Request, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(e.Request))
	}

	resp, err := t.Base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	e.Status, e.Header = resp.StatusCode, resp.Header
	e.Response, err = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}

	if err := d.Check(e); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(e.Response))
	return resp, nil
}

// CloseIdleConnections closes those of Base, for [http.Client.CloseIdleConnections].
func (t Transport) CloseIdleConnections() {
	if c, ok := t.Base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
