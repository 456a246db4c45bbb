/** A write that failed is told behind what there is to read, or as soon as nobody seems to read. */
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { FailedWrite } from '../../../src/strict/failed-write.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A failed write on a socket, and what was told of it. */
function failedWrite() {
  const socket = new Readable({ read() {} });
  const write = new FailedWrite(socket);
  const told: unknown[] = [];
  const error = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
  const keep = () => write.keep(error, (one) => told.push(one));
  return { socket, write, told, error, keep };
}

test('kept while somebody reads, told behind the end, once', async () => {
  const { socket, write, told, error, keep } = failedWrite();
  socket.on('data', () => {});
  keep();
  socket.push('an answer');
  write.onPush();
  await turn();
  expect(told).toEqual([]);
  expect(write.error).toBe(error);
  write.tellBehindEnd();
  socket.push(null);
  write.onPush();
  await turn();
  expect(told).toEqual([error]);
  expect(write.error).toBe(null);
  write.tell();
  expect(told).toHaveLength(1);
});

test('told where what has come is not taken', async () => {
  const { socket, write, told, error, keep } = failedWrite();
  keep();
  await turn();
  expect(told).toEqual([]);
  socket.push('an answer');
  write.onPush();
  await turn();
  expect(told).toEqual([error]);
});

test('told where the end has come, and nobody has heard it', async () => {
  const { socket, write, told, error, keep } = failedWrite();
  keep();
  socket.push(null);
  write.onPush();
  await turn();
  expect(told).toEqual([error]);
});

test('told at once to who pauses', () => {
  const { socket, told, error, keep } = failedWrite();
  socket.on('data', () => {});
  keep();
  socket.pause();
  expect(told).toEqual([error]);
});

test('what else waits for the reader fails first', async () => {
  const { socket, write, told, keep } = failedWrite();
  let gaveUp = 0;
  write.giveUp = () => gaveUp++;
  keep();
  socket.push('an answer');
  write.onPush();
  await turn();
  expect(gaveUp).toBeGreaterThan(0);
  expect(told).toEqual([]);
});
