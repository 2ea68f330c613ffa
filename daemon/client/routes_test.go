package client

import (
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/daemontest"
)

// TestEveryRouteHasAMethod calls each method of the client that takes a context, and
// looks which routes of the API that reaches.
func TestEveryRouteHasAMethod(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	socket := daemontest.SocketPath(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" "+r.URL.Path)
		w.WriteHeader(http.StatusForbidden)
	})}
	go func() { _ = server.Serve(l) }() // until Close
	t.Cleanup(func() { _ = server.Close() })

	c := New(Config{Socket: socket})
	t.Cleanup(func() { _ = c.Close() })
	value, ctx := reflect.ValueOf(c), reflect.ValueOf(t.Context())
	for i := range value.NumMethod() {
		method := value.Method(i)
		if method.Type().NumIn() == 0 || !ctx.Type().AssignableTo(method.Type().In(0)) {
			continue
		}
		args := []reflect.Value{ctx}
		for j := 1; j < method.Type().NumIn(); j++ {
			arg := reflect.New(method.Type().In(j)).Elem()
			if arg.Kind() == reflect.String {
				arg.SetString("name")
			}
			args = append(args, arg)
		}
		method.Call(args)
	}

	for _, route := range api.Routes {
		want := route.Method + " " + strings.Replace(route.Path, "{name}", "name", 1)
		if !slices.Contains(asked, want) {
			t.Errorf("no method of Client calls %s %s", route.Method, route.Path)
		}
	}
}
