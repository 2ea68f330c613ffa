// Has signetd sign a token, which panva's jose verifies, and open a JWE that jose made.
import { request } from 'node:http'
import * as jose from 'jose'

const socketPath = process.env.SIGNETD_SOCKET ?? '/run/signetd/signetd.sock'

// signetd makes one request over the socket. An issuer needs nothing else.
function signetd(method, path, body) {
  return new Promise((resolve, reject) => {
    const req = request({ socketPath, path, method }, async (res) => {
      let text = ''
      for await (const chunk of res) text += chunk
      const answer = JSON.parse(text)
      res.statusCode === 200 ? resolve(answer) : reject(new Error(answer.error.message))
    })
    req.on('error', reject)
    req.end(body && JSON.stringify(body))
  })
}

const { token } = await signetd('POST', '/v1/jwt/sign', { key: 'oidc', claims: { sub: 'alice', aud: 'api' }, ttl: 300 })
console.log(token)

const jwks = await signetd('GET', '/v1/jwks')
const { payload } = await jose.jwtVerify(token, jose.createLocalJWKSet(jwks), {
  audience: 'api',
  issuer: 'https://issuer.example',
  typ: 'at+jwt',
  algorithms: ['ES256'],
})
console.log('signed for:', payload.sub)

const inbox = jwks.keys.find((k) => k.use === 'enc')
const jwe = await new jose.CompactEncrypt(new TextEncoder().encode('a sealed letter'))
  .setProtectedHeader({ alg: inbox.alg, enc: 'A256GCM', kid: inbox.kid })
  .encrypt(await jose.importJWK(inbox))
const { plaintext } = await signetd('POST', '/v1/jwe/decrypt', { jwe })
console.log('opened:', Buffer.from(plaintext, 'base64url').toString())
