// Plays one client: `node [--import close-notify/register] run.mjs CLIENT [hook]`; with the hook, the
// client is made strict by what CLIENT.hook.mjs gives it.
//
// Each line of the input asks, and one line answers, with the same id:
// - { id, port, body }: a case. The client's `exchange` is called. The answer says what came of it: { ok, bytes,
//   sha256 } of what it gave, or { ok: false, error: { name, code, message, causes } }.
// - { id, port, body, again }: a case that shows whether the client tries again: `again[again]` of CLIENT.again.mjs is
//   called. An error has `truncated`, which is isTruncated's answer to it, and where CLIENT.again.mjs knows a better
//   place to ask, `reason`: which place, and the answer to what is there.
// - { id, port, seen }: how much the server on this port has seen, says CLIENT.again.mjs.
// - { id, port, told }: what close-notify.truncated told of connections to this port, if a case came before.
// - { id, settled }: nothing.
//
// A question that cannot be answered has { unanswered }, an error.
import { createHash } from 'node:crypto';
import { subscribe } from 'node:diagnostics_channel';
import { createInterface } from 'node:readline';

const [name, kind] = process.argv.slice(2);
const program = await import(`./${name}.mjs`);
const exchange =
  kind === 'hook' ? program.client((await import(`./${name}.hook.mjs`)).hook) : program.exchange;

const print = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

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

async function outcomeOf(exchange, to, describe) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no end')), LIMIT);
  });
  try {
    const bytes = await Promise.race([exchange(to), limit]);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    return { ok: true, bytes: bytes.length, sha256 };
  } catch (error) {
    return { ok: false, error: describe(error) };
  } finally {
    clearTimeout(timer);
  }
}

const again = () => import(`./${name}.again.mjs`);

/** Messages of the channel. Most programs do not listen to it, so it is not done before a case asks for it. */
let messages;
function listen() {
  if (messages !== undefined) return;
  messages = [];
  subscribe('close-notify.truncated', ({ incomplete, host, port }) => {
    messages.push({ incomplete, host, port });
  });
}

async function tryAgain(way, to) {
  listen();
  const { again: ways, reason } = await again();
  const { isTruncated } = await import('close-notify');
  return outcomeOf(ways[way], to, (error) => ({
    ...describe(error),
    truncated: isTruncated(error),
    ...(reason && { reason: { place: reason.place, truncated: isTruncated(reason.of(error)) } }),
  }));
}

async function answer(asked) {
  if (asked.settled) return {};
  if (asked.told) return { told: messages.filter(({ port }) => port === asked.port) };
  if (asked.seen) return { seen: await (await again()).seen(asked) };
  if (asked.again !== undefined) return tryAgain(asked.again, asked);
  return outcomeOf(exchange, asked, describe);
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, ...asked } = JSON.parse(line);
  answer(asked).then(
    (told) => print({ id, ...told }),
    (error) => print({ id, unanswered: describe(error) }),
  );
}
