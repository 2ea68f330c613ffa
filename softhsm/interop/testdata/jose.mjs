// Does with panva's jose what a list of jobs on standard input says, and prints a list
// of what came of each.
import * as jose from 'jose'

const text = new TextDecoder()
const bytes = (s) => new TextEncoder().encode(s)

const does = {
  async encrypt({ alg, enc, jwk, input }) {
    const e = new jose.CompactEncrypt(bytes(input)).setProtectedHeader({ alg, enc, kid: jwk.kid })
    return e.encrypt(await jose.importJWK(jwk, alg))
  },
  async decrypt({ alg, enc, jwk, input }) {
    const options = { keyManagementAlgorithms: [alg], contentEncryptionAlgorithms: [enc] }
    const { plaintext } = await jose.compactDecrypt(input, await jose.importJWK(jwk, alg), options)
    return text.decode(plaintext)
  },
  async sign({ alg, jwk, input }) {
    const s = new jose.CompactSign(bytes(input)).setProtectedHeader({ alg, kid: jwk.kid })
    return s.sign(await jose.importJWK(jwk, alg))
  },
  async verify({ alg, jwk, input }) {
    const { payload } = await jose.compactVerify(input, await jose.importJWK(jwk, alg), { algorithms: [alg] })
    return text.decode(payload)
  },
}

let input = ''
for await (const chunk of process.stdin) input += chunk
const results = []
for (const job of JSON.parse(input)) {
  try {
    results.push({ output: await does[job.op](job) })
  } catch (err) {
    results.push({ error: String(err) })
  }
}
console.log(JSON.stringify(results))
