# What people and CI run. `make` alone lists it.
# Tools have their version here and not in a `tool` line of go.mod: issuers import this
# module, and would inherit the dependencies of the tools.
GOLANGCI    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -X main.version=$(VERSION)
FUZZTIME ?= 30s
JOURNEY  ?= jwt/sign
BENCH    ?= .
BENCHFLAGS   ?=
BENCH_SOAK   ?= 2000000
SOAK_COUNT   ?= 1000000
TIMING_COUNT ?= 10000
LEAK_COUNT   ?= 1000000
PREFIX   ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help demo demo-kms test check lint vuln fuzz soak interop wycheproof path bench bench-check bench-soak profile microbench build faultp11 install clean deps module-path

help: ## list the targets
	@awk -F ':.*## ' '/^##/ { print "\n" substr($$0, 4) } /^[a-z0-9-]*:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Every day

demo: deps ## sign and open tokens with keys in a throw-away SoftHSM2 token
	go run ./softhsm/demo

demo-kms: deps ## the same with keys that move from SoftHSM2 to a fake AWS KMS and a fake Google Cloud KMS
	go run ./softhsm/demo -kms

check: lint test ## run lint and test; before each push

lint: deps ## check formatting, go vet for Linux and macOS, go.mod, and golangci-lint
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w these:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	GOOS=linux CGO_ENABLED=0 go vet ./...
	GOOS=darwin CGO_ENABLED=0 go vet ./...
	go mod tidy -diff
	cd deploy/examples/go && go vet ./... && go mod tidy -diff
	go run $(GOLANGCI) run

# One package at a time: some put a token under load and measure it.
test: deps ## run every test, race detector on, SoftHSM2 required
	REQUIRE_SOFTHSM=1 go test -race -shuffle=on -p 1 ./...

build: ## build build/signetd (cgo) and build/signet (pure Go)
	CGO_ENABLED=1 go build -trimpath -ldflags '$(LDFLAGS)' -o build/signetd ./cmd/signetd
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o build/signet ./cmd/signet

path: deps ## print the files and functions that a request runs through; JOURNEY=jwe/decrypt or all
	go run ./softhsm/path -journey $(JOURNEY)

## More tests

# The tests of the flood, of the timing and of leaks, with so many samples that small
# effects show. They need the machine for themselves, for ten minutes to half an hour.
soak: deps ## send a million bad ciphertexts (SOAK_COUNT), time them (TIMING_COUNT), look for leaks (LEAK_COUNT)
	REQUIRE_SOFTHSM=1 SOAK_COUNT=$(SOAK_COUNT) TIMING_COUNT=$(TIMING_COUNT) LEAK_COUNT=$(LEAK_COUNT) \
		go test -v -count 1 -timeout 60m -run 'TestE2ESoak|Timing|TestFailingDecryptionsLeakNothing' -p 1 ./softhsm/e2e ./backends/pkcs11

interop: ## test the daemon with go-jose, jose (npm), jose (latchset) and the RFCs; prints tables
	@sh deploy/packaging/install-deps.sh jose node-packages
	REQUIRE_SOFTHSM=1 REQUIRE_TOOLS=1 go test -count 1 -v -run 'Peers|RFC' ./softhsm/interop

wycheproof: deps ## run Wycheproof's vectors through the daemon; WYCHEPROOF=folder with testvectors_v1
	@test -n "$(WYCHEPROOF)" || { echo "WYCHEPROOF=folder: testvectors_v1 of https://github.com/C2SP/wycheproof" >&2; exit 1; }
	REQUIRE_SOFTHSM=1 WYCHEPROOF='$(abspath $(WYCHEPROOF))' go test -count 1 -v -run Wycheproof ./softhsm/interop ./signer/p256

fuzz: deps ## run every fuzz target, one after the other, FUZZTIME=30s each
	@set -e; targets=$$(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed 's/func //' | sort); \
	test -n "$$targets" || { echo "no fuzz target found" >&2; exit 1; }; \
	for t in $$targets; do dir=$$(dirname "$${t%%:*}"); name=$${t##*:}; \
		echo "== $$dir $$name"; \
		REQUIRE_SOFTHSM=1 go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$dir"; \
	done

vuln: ## look for known vulnerabilities in the code that is called (needs the network)
	go run $(GOVULNCHECK) ./...

## Performance

bench: deps ## measure signetd beside its token, p11-kit and others, into build/bench (half an hour); BENCHFLAGS=flags
	@sh deploy/packaging/install-deps.sh opensc p11-kit
	go run ./softhsm/bench -out build/bench $(BENCHFLAGS)

bench-check: deps ## fail if signetd has become slower beside its token than it was (a minute)
	@sh deploy/packaging/install-deps.sh opensc
	go run ./softhsm/bench -check

bench-soak: deps ## compare the daemon's memory after 2,000,000 requests (BENCH_SOAK) with that after a tenth
	go run ./softhsm/bench -run '^$$' -soak $(BENCH_SOAK)

profile: deps ## write CPU and allocation profiles of the daemon under 64 clients to build/profile
	go run ./softhsm/bench -profile build/profile

microbench: deps ## run the Go benchmarks of the packages; BENCH=regexp chooses
	REQUIRE_SOFTHSM=1 go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

## Installation

deps: ## install the packages that this machine lacks for building and testing
	@sh deploy/packaging/install-deps.sh

install: ## install the programs of make build, units and examples, under DESTDIR and PREFIX
	install -D -m 0755 -t '$(DESTDIR)$(PREFIX)/bin' build/signetd build/signet
	install -D -m 0644 -t '$(DESTDIR)$(PREFIX)/lib/systemd/system' deploy/systemd/signetd.service deploy/systemd/signetd.socket
	sed -i 's|/usr/|$(PREFIX)/|' '$(DESTDIR)$(PREFIX)/lib/systemd/system/signetd.service' '$(DESTDIR)$(PREFIX)/lib/systemd/system/signetd.socket'
	install -D -m 0644 deploy/systemd/signetd.sysusers '$(DESTDIR)$(PREFIX)/lib/sysusers.d/signetd.conf'
	install -D -m 0644 deploy/systemd/signetd.tmpfiles '$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/signetd.conf'
	install -D -m 0644 -t '$(DESTDIR)$(PREFIX)/share/doc/signetd' deploy/examples/signetd.yaml deploy/examples/awskms.yaml deploy/examples/awskms-policy.json deploy/systemd/vendor-hsm.conf.example README.md LICENSE
	test ! -e build/faultp11.so || install -D -m 0644 -t '$(DESTDIR)$(PREFIX)/lib/signetd' build/faultp11.so

faultp11: ## build build/faultp11.so, a PKCS#11 module with faults for tests (softhsm/faultp11)
	mkdir -p build
	$(CC) -shared -fPIC -O2 -o build/faultp11.so softhsm/faultp11/module/faultp11.c -ldl -pthread

clean: ## remove the folder build
	rm -rf build

module-path: ## rename the Go module everywhere, MODULE=host/owner/signetd
	@sh deploy/packaging/module-path.sh '$(MODULE)'
