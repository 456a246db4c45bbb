/**
 * Memory of bulk: given back when its time is over, and kept by the allocator.
 *
 * V8 collects large buffers late, so that what makes one for each write goes through memory that no cache holds:
 * a third of the CPU time of a bulk transfer. So it is given back at once. And glibc returns the end of its heap
 * to the kernel as soon as more than 128 KB of it are free, to have it back page by page for the next batch, a
 * fault for each. Whether a batch is at that end is chance: sending 1 KB messages takes 0.86 or 1.4 ns of CPU a
 * byte, from one start of the program to the next.
 */
import { Buffer } from 'node:buffer';
import type { MessagePort } from 'node:worker_threads';
import { process } from '../runtime.ts';

/** One end of a channel whose other end is closed: what is transferred to it is gone. */
let nowhere: MessagePort | null = null;

/** Gives memory back to the allocator now. Whoever still looks at it finds it empty. */
export function giveBack(buffers: readonly Uint8Array[]): void {
  const memory = buffers.map(({ buffer }) => buffer as ArrayBuffer);
  // What is part of something larger is not ours to give.
  if (buffers.some(({ length }, i) => length !== memory[i]?.byteLength)) return;
  if (nowhere === null) {
    // Not the global one, which tests and polyfills replace; and not imported, for the few that need it.
    const { MessageChannel } = process.getBuiltinModule('node:worker_threads');
    const { port1, port2 } = new MessageChannel();
    port1.close();
    port2.close();
    nowhere = port1;
    keepFreed();
  }
  nowhere.postMessage(null, memory);
}

/** Twice as much may be free at the end of the heap. Nothing of it is ever touched. */
const KEPT = 1_048_576;

let kept = false;

/**
 * Has the allocator keep what is freed, for what comes next: where a block is freed that is larger than all before,
 * glibc takes it for what the program needs now and then ("the threshold for trimming the heap is also dynamically
 * adjusted to be twice the dynamic mmap threshold", mallopt(3)). To other allocators it is a block like any other.
 */
export function keepFreed(): void {
  if (kept) return;
  kept = true;
  giveBack([Buffer.allocUnsafeSlow(KEPT)]);
}
