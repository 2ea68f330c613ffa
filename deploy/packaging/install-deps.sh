#!/bin/sh
# Installs what this machine lacks for building, testing and the demo: a C compiler
# with its headers (cgo), SoftHSM2 and openssl. Each argument names something more:
#   systemd-analyze, curl, jose, node   that command
#   tokens                              all software tokens of package softhsm/tokens
#   node-packages                       the packages from npm for the tests and for
#                                       deploy/examples/node, in a cache of this user
#
# If nothing is missing it does nothing and prints nothing. On Debian and its
# derivatives it installs the missing packages with apt, as root or by sudo. On any
# other system it prints the command to run, and fails.
set -eu

say() { printf '%s\n' "$*" >&2; }

# any FILE... is true if one of the files exists.
any() {
	for file in "$@"; do
		[ -e "$file" ] && return 0
	done
	return 1
}

# The path of the module differs: Debian, Debian multiarch, Fedora, Arch and Alpine,
# Homebrew on Apple silicon, Homebrew on Intel.
softhsm_module() {
	any /usr/lib/softhsm/libsofthsm2.so \
		/usr/lib/*/softhsm/libsofthsm2.so \
		/usr/lib64/pkcs11/libsofthsm2.so /usr/lib64/softhsm/libsofthsm2.so \
		/usr/lib/pkcs11/libsofthsm2.so /usr/lib/libsofthsm2.so \
		/opt/homebrew/lib/softhsm/libsofthsm2.so \
		/usr/local/lib/softhsm/libsofthsm2.so
}

nss() {
	command -v certutil >/dev/null &&
		any /usr/lib/*/libsoftokn3.so /usr/lib/*/nss/libsoftokn3.so /usr/lib64/libsoftokn3.so /usr/lib/libsoftokn3.so
}

opencryptoki() {
	any /usr/sbin/pkcsslotd && any /usr/lib/*/opencryptoki/libopencryptoki.so.0 /usr/lib64/opencryptoki/libopencryptoki.so.0
}

p11_kit() {
	command -v p11-kit >/dev/null &&
		any /usr/lib/*/pkcs11/p11-kit-client.so /usr/lib64/pkcs11/p11-kit-client.so &&
		any /usr/lib/p11-kit/p11-kit-server /usr/libexec/p11-kit/p11-kit-server /usr/lib/*/p11-kit/p11-kit-server
}

tpm() {
	command -v swtpm >/dev/null && command -v dbus-daemon >/dev/null && any /usr/sbin/tpm2-abrmd &&
		any /usr/lib/*/pkcs11/libtpm2_pkcs11.so* /usr/lib64/pkcs11/libtpm2_pkcs11.so* &&
		any /usr/lib/*/libtss2-tcti-swtpm.so.0 /usr/lib64/libtss2-tcti-swtpm.so.0 &&
		any /usr/lib/*/libtss2-tcti-tabrmd.so.0 /usr/lib64/libtss2-tcti-tabrmd.so.0
}

# A compiler may be there without the C library's headers, and cgo would fail.
c_compiler() {
	# shellcheck disable=SC2046 # CC may be a command with arguments
	printf '#include <dlfcn.h>\n#include <stdlib.h>\n' |
		$(go env CC) -fsyntax-only -x c - 2>/dev/null
}

has() {
	case $1 in
	compiler) c_compiler ;;
	softhsm) command -v softhsm2-util >/dev/null && softhsm_module ;;
	opensc) command -v pkcs11-tool >/dev/null ;;
	p11-kit) p11_kit ;;
	nss | opencryptoki | tpm) "$1" ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

missing() {
	for need in "$@"; do
		case $need in
		tokens) missing opensc p11-kit nss opencryptoki tpm ;;
		node-packages) missing node npm ;;
		*) has "$need" || printf '%s ' "$need" ;;
		esac
	done
}

# packages SYSTEM NEED... prints the packages of SYSTEM that contain the needs.
packages() {
	system=$1
	shift
	for need in "$@"; do
		case $system:$need in
		debian:compiler) printf ' gcc libc6-dev' ;;
		debian:softhsm) printf ' softhsm2' ;;
		debian:p11-kit) printf ' p11-kit p11-kit-modules' ;;
		debian:nss) printf ' libnss3 libnss3-tools' ;;
		debian:tpm) printf ' swtpm libtpm2-pkcs11-1 tpm2-abrmd libtss2-tcti-swtpm0 libtss2-tcti-tabrmd0 dbus' ;;
		fedora:p11-kit) printf ' p11-kit p11-kit-server' ;;
		fedora:nss) printf ' nss nss-tools' ;;
		*:tpm) printf ' swtpm tpm2-pkcs11 tpm2-abrmd dbus' ;;
		fedora:compiler) printf ' gcc glibc-devel' ;;
		alpine:compiler) printf ' gcc musl-dev' ;;
		macos:compiler) ;; # comes with the Xcode command line tools
		*:compiler) printf ' gcc' ;;
		*:systemd-analyze) printf ' systemd' ;;
		*:node) printf ' nodejs' ;;
		*) printf ' %s' "$need" ;;
		esac
	done
}

check_go() {
	if ! command -v go >/dev/null; then
		say "go is missing: install Go 1.26 or newer (https://go.dev/dl/) and put it on the PATH"
		exit 1
	fi
	have=$(go env GOVERSION 2>/dev/null) || have=$(GOTOOLCHAIN=local go version | cut -d' ' -f3)
	minor=${have#go1.}
	minor=${minor%%[!0-9]*}
	case $have in
	go1.*) [ "${minor:-0}" -ge 26 ] && return ;;
	devel*) return ;;
	esac
	say "go is $have: signetd needs Go 1.26 or newer (https://go.dev/dl/)"
	exit 1
}

apt_install() {
	sudo=
	if [ "$(id -u)" -ne 0 ]; then
		if ! command -v sudo >/dev/null; then
			say "missing: $needs"
			say "run as root: apt-get update && apt-get install $*"
			exit 1
		fi
		sudo=sudo
	fi
	say "installing $*"
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	apt="$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3"
	# $apt is a command with arguments, and each package is an argument.
	# shellcheck disable=SC2086
	if ! { $apt update && $apt install --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		say "could not install $*"
		exit 1
	fi
}

# node_packages installs the packages of the lock file, if that was asked for and they
# are not in the cache. softhsm.NodeModules looks in the same place.
node_packages() {
	case " $* " in *" node-packages "*) ;; *) return 0 ;; esac
	from=$(dirname "$0")/../examples/node
	to=${XDG_CACHE_HOME:-$HOME/.cache}/signetd/node
	if [ -d "$to/node_modules" ] && cmp -s "$from/package-lock.json" "$to/package-lock.json"; then
		return 0
	fi
	say "installing the packages of $from/package-lock.json in $to"
	rm -rf "$to"
	mkdir -p "$to"
	cp "$from/package.json" "$from/package-lock.json" "$to/"
	if ! (cd "$to" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null); then
		rm -rf "$to"
		say "could not install them"
		exit 1
	fi
}

check_go
set -- compiler softhsm openssl "$@"
needs=$(missing "$@")
if [ -z "$needs" ]; then
	node_packages "$@"
	exit 0
fi

if command -v apt-get >/dev/null; then
	# shellcheck disable=SC2046,SC2086 # lists of words
	apt_install $(packages debian $needs)
	needs=$(missing "$@")
	[ -z "$needs" ] || { say "still missing after the installation: $needs"; exit 1; }
	node_packages "$@"
	exit 0
fi

say "missing: $needs"
# shellcheck disable=SC2086 # $needs is a list of words
if command -v dnf >/dev/null; then
	say "run as root: dnf install$(packages fedora $needs)"
elif command -v apk >/dev/null; then
	say "run as root: apk add$(packages alpine $needs)"
elif command -v pacman >/dev/null; then
	say "run as root: pacman -S$(packages arch $needs)"
elif command -v zypper >/dev/null; then
	say "run as root: zypper install$(packages suse $needs)"
elif [ "$(uname)" = Darwin ]; then
	case " $needs" in *" compiler "*) say "run: xcode-select --install" ;; esac
	formulae=$(packages macos $needs)
	[ -z "$formulae" ] || say "run: brew install$formulae"
else
	say "install a C compiler with the C library's headers, SoftHSM2 and openssl, then run this again"
fi
exit 1
