// Package cloud has what the backends of cloud KMS services have in common: when to
// try a call again and for how long, how much of the account's quota to use, and how to
// tell a service that is down from one that is busy.
//
// A backend makes one [Caller] when it is opened and sends every call to the
// service through [Caller.Do]:
//
//	caller := cloud.New(cloud.Config{
//		Service:  "Example KMS",
//		Rates:    map[string]int{"rsa": 500, "ecc": 500},
//		Classify: classify, // this service's errors, see [Fault]
//	})
//	var out *Signature
//	err := caller.Do(ctx, "rsa", func(ctx context.Context) (err error) {
//		out, err = client.Sign(ctx, in) // with the retries of the SDK off
//		return err
//	})
//
// The errors of a call:
//
//   - signer.ErrOverloaded if the rate of its class is used up, or the service says
//     that its quota is. [signer.RetryAfter] reads when to try again. There is no second
//     attempt, which would take more of what is short, and for some milliseconds after
//     a throttle no call of the class goes out.
//   - signer.ErrUnavailable if the service or the network fails, after [Config.Attempts]
//     attempts, each within [Config.AttemptTimeout]. The pause between them doubles and
//     is jittered. An attempt for which the caller's deadline leaves no time is not made.
//   - The error that Classify returned, as it is, if that is final.
//   - ctx.Err(), at once, if the caller's context ends.
//   - signer.ErrUnavailable if the backend is closed.
//
// A call whose answer is whole and wrong, such as one without a signature, returns
// [Retry] or [Fail].
//
// [ParsePublicKey] and [Verify] read what services answer: keys in SPKI form and
// signatures in DER, also on secp256k1. A backend verifies every signature before it
// returns it.
package cloud
