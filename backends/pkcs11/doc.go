// Package pkcs11 opens keys that stay in a PKCS#11 token: an HSM, a TPM, or
// SoftHSM2. They sign, make MACs, decrypt, agree on secrets and wrap keys.
//
// For most uses call [Open] with a [Config] and then [Backend.OpenKey] with a
// pkcs11: URI (RFC 7512). Open logs in, with one attempt. OpenKey reads the
// public half, and proves that the token holds the private half of just that
// key, before anybody relies on it. On the way it tries each way of using the key
// that its attributes allow: tokens lack mechanisms, and do not say so.
//
// PKCS#11 sessions must not be used by two threads at once, and a call into a
// module cannot be cancelled. So each session belongs to one worker goroutine
// of a bounded pool, before which a bounded queue waits. A caller whose context ends leaves at once; the worker
// stays with the call until the module returns, and only then takes the next
// job. A module that never returns costs one worker for each hung call. When it
// has all of them, who waits and who comes is told ErrUnavailable at once, until
// a call returns. Close waits for it: only a new process heals that.
//
// A module is initialised once per process, whatever the number of Backends
// that use it, and finalised when the last one closes. A token is logged in to
// once per process. An old and a new configuration may thus live side by side.
//
// When a login, a session, a key's handle or the device is lost, the backend
// gets it back: it looks at the token, initialises the module anew if nothing
// less helps, logs in with the PIN as pin_file holds it then, finds its keys
// again and makes sure that they are the same. A request that met the loss is
// tried once more. While the token stays away requests hear ErrUnavailable at
// once. A PIN that the token refused is not tried again.
//
// The package needs cgo. Without it Open returns signer.ErrUnsupported.
package pkcs11
