// Plays one client: `node [--import close-notify/register] run.mjs CLIENT [hook]`; with the hook, the
// client is made strict by what CLIENT.hook.mjs gives it.
//
// Each line of the input is a case, { id, port, body }; for each the client's `exchange` is called,
// and one line says what came of it: { id, ok, ... } with what the exchange gave, or
// { id, ok: false, error: { code, message, causes } }. A line { id, settled } is only answered.
import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';

const [name, kind] = process.argv.slice(2);
const program = await import(`./${name}.mjs`);
const exchange =
  kind === 'hook' ? program.client((await import(`./${name}.hook.mjs`)).hook) : program.exchange;

const print = (outcome) => process.stdout.write(`${JSON.stringify(outcome)}\n`);

const describe = (error) =>
  typeof error === 'object' && error !== null
    ? {
        name: error.name ?? null,
        code: error.code ?? null,
        message: error.message ?? null,
        causes: error.cause === undefined ? [] : [describe(error.cause)],
      }
    : { name: typeof error, code: null, message: String(error), causes: [] };

// An error that nobody is there to take ends a program: none of these may have one.
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (error) => print({ id: null, ok: false, error: describe(error) }));
}

/** So long no exchange over loopback takes; the server or the client does not come to an end. */
const LIMIT = 60_000;

for await (const line of createInterface({ input: process.stdin })) {
  const { id, settled, ...to } = JSON.parse(line);
  if (settled) {
    print({ id, ok: true });
    continue;
  }
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no end')), LIMIT);
  });
  Promise.race([exchange(to), limit])
    .then(
      (bytes) => {
        const sha256 = createHash('sha256').update(bytes).digest('hex');
        print({ id, ok: true, bytes: bytes.length, sha256 });
      },
      (error) => print({ id, ok: false, error: describe(error) }),
    )
    .finally(() => clearTimeout(timer));
}
