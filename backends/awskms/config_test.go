//go:build !noaws

package awskms_test

import (
	"errors"
	"strings"
	"testing"

	"signetd/backends/awskms"
	"signetd/backends/awskms/awskmstest"
	"signetd/signer"
)

func TestConfig(t *testing.T) {
	role := func(r awskms.AssumeRole) awskms.Config { return awskms.Config{Region: "eu-west-1", AssumeRole: &r} }
	awskmstest.New(t, awskmstest.Config{}).Setenv(t)

	tests := []struct {
		name   string
		config awskms.Config
		env    map[string]string
		text   string // in the error; empty is none
	}{
		{name: "region", config: awskms.Config{Region: "eu-west-1"}},
		{name: "region of the environment", env: map[string]string{"AWS_REGION": "eu-west-1"}},
		{name: "no region", text: "region"},
		{name: "no name of a region", config: awskms.Config{Region: "EU West"}, text: "eu-west-1"},
		{name: "FIPS", config: awskms.Config{Region: "us-east-1", FIPS: true}},
		{name: "FIPS and endpoint", config: awskms.Config{Region: "us-east-1", FIPS: true, Endpoint: "https://kms.example"}, text: "fips and endpoint"},
		{name: "FIPS and an endpoint of the environment", config: awskms.Config{Region: "us-east-1", FIPS: true}, env: map[string]string{"AWS_ENDPOINT_URL_KMS": "https://kms.example"}, text: "AWS_ENDPOINT_URL_KMS"},
		{name: "FIPS of the environment and endpoint", config: awskms.Config{Region: "us-east-1", Endpoint: "https://kms.example"}, env: map[string]string{"AWS_USE_FIPS_ENDPOINT": "true"}, text: "AWS_USE_FIPS_ENDPOINT"},
		{name: "endpoint", config: awskms.Config{Region: "us-east-1", Endpoint: "https://vpce-1.kms.us-east-1.vpce.amazonaws.com"}},
		{name: "endpoint here", config: awskms.Config{Region: "us-east-1", Endpoint: "http://127.0.0.1:4566"}},
		{name: "endpoint in the clear", config: awskms.Config{Region: "us-east-1", Endpoint: "http://kms.example"}, text: "https"},
		{name: "endpoint in the clear by the environment", config: awskms.Config{Region: "us-east-1"}, env: map[string]string{"AWS_ENDPOINT_URL": "http://kms.example"}, text: "https"},
		{name: "endpoint that is none", config: awskms.Config{Region: "us-east-1", Endpoint: "kms.example"}, text: "URL"},
		{name: "profile that is not there", config: awskms.Config{Region: "us-east-1", Profile: "nobody"}, text: "nobody"},
		{name: "role", config: role(awskms.AssumeRole{ARN: "arn:aws:iam::111122223333:role/signetd", ExternalID: "x", SessionName: "host-1"})},
		{name: "role that is none", config: role(awskms.AssumeRole{ARN: "signetd"}), text: "arn"},
		{name: "session name", config: role(awskms.AssumeRole{ARN: "arn:aws:iam::111122223333:role/signetd", SessionName: "a b"}), text: "session_name"},
		{name: "attempts", config: awskms.Config{Region: "us-east-1", Attempts: 100}, text: "attempts"},
		{name: "attempt timeout", config: awskms.Config{Region: "us-east-1", AttemptTimeout: "1"}, text: "attempt_timeout"},
		{name: "rate", config: awskms.Config{Region: "us-east-1", Rates: awskms.Rates{ECC: -1}}, text: "rates"},
		{name: "rate of ML-DSA", config: awskms.Config{Region: "us-east-1", Rates: awskms.Rates{MLDSA: -1}}, text: "rates"},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			b, err := awskms.Open(t.Context(), tt.config)
			if err == nil {
				err2 := b.Close()
				if tt.text != "" || err2 != nil {
					t.Errorf("Open() = nil, Close() = %v; want an error with %q", err2, tt.text)
				}
				return
			}
			if tt.text == "" || !errors.Is(err, signer.ErrInvalid) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Open() = %v, want ErrInvalid with %q", err, tt.text)
			}
		})
	}
}
