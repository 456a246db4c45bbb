/** Joins a TCP connection and an end of a channel, so that what cuts the one cuts the other. */
import type net from 'node:net';
import type { Duplex } from 'node:stream';

/** RST at once; `resetAndDestroy()` sends FIN before it. */
export function reset(socket: net.Socket): void {
  Object.assign(socket, { resetAndClosing: true });
  socket.destroy();
}

/** Makes `tcp`, half-open, the continuation of `end`: FIN stays FIN, a reset RST. */
export function splice(tcp: net.Socket, end: Duplex): void {
  if (end.destroyed) {
    reset(tcp);
    return;
  }
  tcp.on('data', (bytes) => end.write(bytes));
  tcp.on('end', () => end.end());
  tcp.on('error', () => end.destroy());
  tcp.on('close', () => end.destroy());
  end.on('data', (bytes) => tcp.write(bytes));
  end.on('end', () => tcp.end());
  end.on('error', () => reset(tcp));
}

/** Waits for work, but not for ever. @returns 'hang' when the time is over. */
export async function settled<T>(work: Promise<T>, ms: number): Promise<T | 'hang'> {
  let timer: NodeJS.Timeout | undefined;
  const overtime = new Promise<'hang'>((resolve) => {
    timer = setTimeout(resolve, ms, 'hang');
  });
  try {
    return await Promise.race([work, overtime]);
  } finally {
    clearTimeout(timer);
  }
}
