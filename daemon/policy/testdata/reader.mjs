// Reads claims as a program in JavaScript does, for FuzzApply. Each line on standard input
// is a JSON text in base64. The line that answers it describes what JSON.parse returned.
import { createInterface } from 'node:readline'

const double = new DataView(new ArrayBuffer(8))

// A value as [type, text], so that the reader of the answer cannot change its meaning.
function flat (v) {
  if (v === null) return ['null', '']
  if (Array.isArray(v)) return ['array', String(v.length)]
  switch (typeof v) {
    case 'number':
      double.setFloat64(0, v)
      return ['number', double.getBigUint64(0).toString(16)]
    case 'string':
      return ['string', Buffer.from(v, 'utf8').toString('base64url')]
    case 'boolean':
      return ['boolean', String(v)]
    default:
      return ['object', String(Object.keys(v).length)]
  }
}

// Lists every value in the document with its path.
function walk (v, path, out) {
  out.push([path, ...flat(v)])
  if (v === null || typeof v !== 'object') return
  for (const [name, member] of Object.entries(v)) {
    walk(member, path + '/' + Buffer.from(name, 'utf8').toString('base64url'), out)
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    const claims = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(line, 'base64')))
    const values = []
    walk(claims, '', values)
    const { iss, sub, aud, exp, nbf, iat, jti } = claims
    answer = { values, claims: { iss, sub, aud, exp, nbf, iat, jti } }
  } catch (e) {
    answer = { error: e.name }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
