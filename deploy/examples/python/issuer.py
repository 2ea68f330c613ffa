"""Has signetd sign tokens through PyJWT, and verifies them with the public key."""

import base64
import hashlib
import http.client
import json
import os
import socket
import time

import jwt
from jwt.algorithms import RSAAlgorithm

SOCKET = os.environ.get("SIGNETD_SOCKET", "/run/signetd/signetd.sock")


class Connection(http.client.HTTPConnection):
    """An HTTP connection over the daemon's socket."""

    def __init__(self):
        super().__init__("signetd")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(SOCKET)


def signetd(method, path, body=None):
    """Makes one request and returns the answer, or raises the daemon's message."""
    connection = Connection()
    connection.request(method, path, body and json.dumps(body))
    response = connection.getresponse()
    answer = json.load(response)
    if response.status != 200:
        raise RuntimeError(answer["error"]["message"])
    return answer


class SignetdRS256(RSAAlgorithm):
    """An RS256 that signs with the key of signetd whose name it is given."""

    def __init__(self):
        super().__init__(RSAAlgorithm.SHA256)

    def prepare_key(self, key):
        return key if isinstance(key, str) else super().prepare_key(key)

    def sign(self, msg, key):
        digest = base64.urlsafe_b64encode(hashlib.sha256(msg).digest()).rstrip(b"=").decode()
        answer = signetd("POST", "/v1/digest/sign", {"key": key, "alg": "RS256", "digest": digest})
        return base64.urlsafe_b64decode(answer["signature"] + "==")


jwt.unregister_algorithm("RS256")
jwt.register_algorithm("RS256", SignetdRS256())

public = signetd("GET", "/v1/keys/notes")["versions"][0]["public"]
claims = {"sub": "alice", "aud": "api", "exp": int(time.time()) + 60}
token = jwt.encode(claims, "notes", algorithm="RS256", headers={"kid": public["kid"]})
print(token)
verified = jwt.decode(token, RSAAlgorithm.from_jwk(json.dumps(public)), algorithms=["RS256"], audience="api")
print("signed for:", verified["sub"])
