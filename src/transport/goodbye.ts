/** The transport's end: a goodbye that is kind to the peer. */
import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers';
import type { Linger } from '../closure/policy.ts';
import { after } from '../wait.ts';

/** What drops each transport of this process that lingers, the oldest first. */
const lingering = new Set<() => void>();

/**
 * Ends the transport kindly: FIN, then read on and discard until the peer's FIN. Closing a socket
 * with unread bytes (session tickets, say) makes the kernel send RST instead, and that can destroy
 * our last bytes on their way to the peer.
 *
 * @param alive whether the process waits for it; the transport itself is the caller's to `unref`.
 *
 * Resolves when the transport is closed, by the peer's FIN or by force, as `linger` has it. Errors of a transport that
 * is being given up are of no interest to anyone.
 */
export async function closeTransport(
  transport: Duplex,
  { time: deadline, count }: Linger,
  alive = true,
): Promise<void> {
  if (transport.closed) {
    ignoreErrors(transport);
    transport.destroy();
    await turns();
    return;
  }
  await new Promise<void>((resolve) => {
    const drop = () => transport.destroy();
    const check = () => {
      if (transport.readableEnded && transport.writableFinished) drop();
    };
    const settle = () => {
      stop();
      transport.off('end', check);
      transport.off('finish', check);
      transport.off('data', discard);
      lingering.delete(drop);
      resolve();
    };
    // Until it has told 'close' it may fail, and then it is over.
    const onClose = () => {
      transport.off('error', drop);
      settle();
    };
    let stop = after(
      deadline,
      () => {
        if (transport.destroyed) {
          settle();
          return;
        }
        drop();
        stop = after(deadline, settle, alive);
      },
      alive,
    );
    transport.on('error', drop);
    transport.once('close', onClose);
    if (transport.destroyed) return;
    transport.on('end', check);
    transport.on('finish', check);
    transport.on('data', discard);
    try {
      // A second time Node makes an error of it, with a stack, and tells nobody.
      if (transport.writableEnded !== true) transport.end();
      transport.resume();
      check();
    } catch {
      // A transport that cannot even be ended.
      drop();
    }
    if (transport.destroyed) return;
    lingering.add(drop);
    if (lingering.size > count) lingering.values().next().value?.();
  });
}

const discard = () => {};

/**
 * Until it has told 'close', a transport that is being given up may still fail, which then concerns
 * nobody.
 */
export function ignoreErrors(transport: Duplex): void {
  const ignore = () => {};
  const stop = () => {
    transport.off('error', ignore);
    transport.off('close', stop);
  };
  transport.on('error', ignore);
  transport.on('close', stop);
  // A socket is `closed` before it tells; whether it has told already cannot be asked.
  if (transport.closed) void turns().then(stop);
}

/** Long enough for a socket that is closed to tell so: handles close at the end of a loop's turn. */
async function turns(): Promise<void> {
  for (let i = 0; i < 2; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}
