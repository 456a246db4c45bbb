// @ts-check
// Which client certificate does this server accept, and which of mine fits?
//
//   node examples/find-issuers.mjs HOST PORT CA.pem [IDENTITY...]
import { readFileSync } from 'node:fs';
import { ClientCertificateFinder, loadIdentities } from 'close-notify/client-cert';

const [host = 'localhost', port = '443', caFile = '', ...paths] = process.argv.slice(2);

const found = await new ClientCertificateFinder().find(
  { host, port: Number(port) },
  { ca: readFileSync(caFile), identities: await loadIdentities(paths) },
);
console.log(`a client certificate: ${found.request}`);
for (const name of found.issuers) console.log(`from: ${name}`);
for (const { identity, usable, reasons } of found.matches) {
  const why = reasons.map(({ message }) => message).join('; ');
  console.log(`${usable ? 'fits' : 'does not fit'}: ${identity.source}${why && `: ${why}`}`);
}
console.log(`the connection's end: ${found.closure.verdict}`);
