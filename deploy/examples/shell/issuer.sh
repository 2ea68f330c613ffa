#!/bin/sh
# Has signetd sign a token, verify it, and open a JWE, with curl and jq.
set -eu
socket=${SIGNETD_SOCKET:-/run/signetd/signetd.sock}

# post PATH sends the JSON on standard input and prints the answer. If the daemon refuses,
# it prints the daemon's message to standard error and fails.
post() {
	answer=$(curl -sS --unix-socket "$socket" "http://signetd$1" -d @-)
	if [ "$(printf '%s' "$answer" | jq 'has("error")')" = true ]; then
		printf '%s' "$answer" | jq -r '.error.message' >&2
		return 1
	fi
	printf '%s' "$answer"
}

token=$(jq -n '{key: "oidc", claims: {sub: "alice", aud: "api"}, ttl: 300}' | post /v1/jwt/sign | jq -r .token)
printf '%s\n' "$token"

jq -n --arg t "$token" '{token: $t, audience: "api"}' | post /v1/jwt/verify | jq -r '"signed for: " + .claims.sub'

jwe=$(jq -n '{key: "inbox", plaintext: ("a sealed letter" | @base64)}' | post /v1/jwe/encrypt | jq -r .jwe)
jq -n --arg j "$jwe" '{jwe: $j}' | post /v1/jwe/decrypt |
	jq -r '.plaintext | gsub("-"; "+") | gsub("_"; "/") | @base64d | "opened: " + .'
