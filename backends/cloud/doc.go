// Package cloud is what the backends of cloud KMS services have in common: when
// to try a call again and for how long, how much of the account's quota to use,
// and how to tell a service that is down from one that is busy.
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
// What a call can be refused or fail with:
//
//   - The rate of its class is used up, here or by the service's own word:
//     signer.ErrOverloaded, with a hint that [signer.RetryAfter] reads. There is no
//     second attempt, which would use up more of what is short, and for some
//     milliseconds after a throttle the others of its class do not go out.
//   - The service or the network fails: [Config.Attempts] attempts, each within
//     [Config.AttemptTimeout], with a pause between them that doubles and is
//     jittered, and none that the caller's deadline leaves no time for. Then
//     signer.ErrUnavailable.
//   - The answer is final: the error that Classify made of it, as it is.
//   - The caller's context ends: ctx.Err(), at once.
//   - The backend is closed: signer.ErrUnavailable.
//
// An answer that comes whole and is wrong, such as one without a signature, is an
// error of the call like any other: return [Retry] or [Fail] from it.
//
// [ParsePublicKey] and [Verify] are for what services answer: keys in SPKI form and
// signatures in DER, those on secp256k1, too. A backend verifies every signature
// before it returns it.
package cloud
