// Package awskmstest is a server that speaks the protocol of AWS KMS, for the tests of
// programs that use it: JSON 1.1 over HTTP or HTTPS. It checks the signature of every
// request (SigV4) as strictly as AWS does. It has keys of every KeySpec but ML-KEM and
// SM2, which really sign, encrypt and agree, and faults on request. It keeps its keys in
// memory and forgets them at the end.
//
//	server := awskmstest.New(t, awskmstest.Config{})
//	server.Setenv(t) // credentials for the SDK's default chain
//	arn := server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")
//	backend, err := awskms.Open(ctx, awskms.Config{Region: server.Region(), Endpoint: server.URL()})
//	...
//	server.Inject("Sign", 1, 2, awskmstest.Status(503)) // the next two calls of Sign
//
// It is for tests only: its errors say more than those of AWS.
package awskmstest
