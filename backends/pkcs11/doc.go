// Package pkcs11 opens keys that stay in a PKCS#11 token: an HSM, a TPM, or SoftHSM2. They
// sign, make MACs, decrypt, agree on secrets and wrap keys.
//
// For most uses call [Open] with a [Config] and then [Backend.OpenKey] with a pkcs11: URI
// (RFC 7512). Open logs in, with one attempt. OpenKey reads the public half, and proves
// that the token holds the private half of just that key before it is relied on. On the
// way it tries each way of using the key that its attributes allow, because tokens lack
// mechanisms and do not say so.
//
// A call into a module cannot be interrupted, and two threads must not use one session.
// So each operation leases a session from a bounded pool, with a bounded queue before it:
// see package pool. A caller whose context ends leaves at once. Its session stays with the
// call until the module returns.
//
// A module is initialised once per process, whatever the number of Backends that use it,
// and finalised when the last one closes. A token is logged in to once per process. So an
// old and a new configuration can live side by side. Both facts live in package cryptoki,
// with all calls into the module.
//
// When a login, a session, a key's handle or the device is lost, the backend gets it back.
// It looks at the token, initialises the module anew if nothing less helps, logs in with
// the PIN as pin_file holds it then, finds its keys again, and makes sure that they are the
// same. A request that met the loss is tried once more. While the token stays away,
// requests are refused with ErrUnavailable at once. A PIN that the token refused is not
// tried again.
//
// The package needs cgo. Without it Open returns signer.ErrUnsupported.
package pkcs11
