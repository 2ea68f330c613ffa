// Package gcpkms opens keys that stay in Google Cloud KMS.
//
// For most uses call [Open] with a [Config] and then [Backend.OpenKey] with the
// name of a CryptoKeyVersion. A CryptoKey stands for all its enabled versions:
// [Backend.Expand] lists them.
//
// Google fixes the algorithm of a version when it makes it, padding and hash included,
// so a version does one algorithm of JOSE, which [KeysFor] lists the other way round.
// RSA_SIGN_RAW_PKCS1 versions do three, since they sign whatever DigestInfo they are
// sent. OpenKey refuses versions that do nothing that JOSE has, and says why.
//
// Every request carries the CRC32C of its contents. An answer counts only if it says
// that Google has verified that, if its own CRC32C is right, and if it names the
// version and the protection level that were opened. Every signature is verified with
// the public key, which was read once, when the key was opened. An answer that fails
// one of these checks is thrown away and asked for again, a few times.
//
// A [cloud.Caller] makes the calls, with the retries of Google's client off. The build
// tag nogcp leaves the package's dependencies out of a binary; Open returns
// signer.ErrUnsupported there.
package gcpkms
