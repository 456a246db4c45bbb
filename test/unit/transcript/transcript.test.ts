/** What a transcript keeps, and that it does not grow. */
import { describe, expect, it } from 'vitest';
import type { Observation } from '../../../src/transcript/observer.ts';
import { Transcript } from '../../../src/transcript/transcript.ts';

const record = (direction: 'sent' | 'received', length: number, contentType = 23): Observation => ({
  type: 'record',
  direction,
  contentType,
  length,
});
const CANCEL: Observation = { type: 'call', name: 'cancel', detail: 'read' };

describe('Transcript', () => {
  it('folds records and data of one direction', () => {
    const transcript = new Transcript();
    transcript.observe({ type: 'data', direction: 'sent', bytes: 10 }, 1);
    transcript.observe(record('sent', 27), 2);
    transcript.observe({ type: 'data', direction: 'sent', bytes: 20 }, 3);
    transcript.observe(record('sent', 37), 4);
    transcript.observe(record('received', 30), 5);
    expect(transcript.entries).toEqual([
      {
        ...{ type: 'traffic', direction: 'sent', at: 1, until: 4 },
        ...{ records: 2, wireBytes: 64, calls: 2, bytes: 30, decrypted: false },
      },
      {
        ...{ type: 'traffic', direction: 'received', at: 5, until: 5 },
        ...{ records: 1, wireBytes: 30, calls: 0, bytes: 0, decrypted: false },
      },
    ]);
  });

  it('tells of a close_notify once, not of its record too', () => {
    const transcript = new Transcript();
    transcript.observe(record('sent', 100), 1);
    transcript.observe(record('sent', 19), 2);
    transcript.observe({ type: 'close-notify', direction: 'sent' }, 3);
    transcript.observe(record('received', 19), 4);
    transcript.observe({ type: 'close-notify', direction: 'received' }, 4);
    expect(transcript.entries.map(({ type }) => type)).toEqual(['traffic', 'event', 'event']);
    expect(transcript.entries[0]).toMatchObject({ records: 1, wireBytes: 100 });
  });

  it('tells of a fatal alert once, also when its record goes out after it was told of', () => {
    const alert = { code: 20, name: 'bad_record_mac', authenticated: true };
    const transcript = new Transcript();
    transcript.observe(record('sent', 100), 1);
    transcript.observe({ type: 'alert', direction: 'sent', alert }, 2);
    transcript.observe(record('sent', 19), 3);
    expect(transcript.entries.map(({ type }) => type)).toEqual(['traffic', 'event']);
    expect(transcript.entries[0]).toMatchObject({ records: 1, wireBytes: 100 });
  });

  it('holds at most as many entries as it was told, and counts the rest', () => {
    const transcript = new Transcript({ limit: 20 });
    for (let at = 0; at < 1000; at++) transcript.observe(CANCEL, at);
    expect(transcript.entries).toHaveLength(20);
    expect(transcript.dropped).toBe(980);
    expect(transcript.head).toBe(10);
    expect(transcript.entries.map(({ at }) => at)).toEqual([
      ...Array.from({ length: 10 }, (_, at) => at),
      ...Array.from({ length: 10 }, (_, at) => 990 + at),
    ]);
  });

  it('keeps what tells of the ending when it has to drop something', () => {
    const transcript = new Transcript({ limit: 8 });
    for (let at = 0; at < 6; at++) transcript.observe(CANCEL, at);
    transcript.observe({ type: 'close-notify', direction: 'received' }, 6);
    for (let at = 7; at < 1000; at++) transcript.observe(CANCEL, at);
    expect(transcript.entries).toHaveLength(8);
    expect(transcript.entries).toContainEqual(
      expect.objectContaining({ observation: { type: 'close-notify', direction: 'received' } }),
    );
  });

  it('does not grow with what it folds, in both directions in turn', () => {
    const transcript = new Transcript({ limit: 50 });
    for (let at = 0; at < 10_000; at++) {
      transcript.observe(record(at % 2 === 0 ? 'sent' : 'received', 100), at);
    }
    expect(transcript.entries).toHaveLength(50);
    expect(transcript.dropped).toBe(9_950);
  });

  it('remembers the last verdict', () => {
    const transcript = new Transcript();
    expect(transcript.verdict).toBe('open');
    transcript.observe({ type: 'verdict', verdict: 'truncated' }, 1);
    expect(transcript.verdict).toBe('truncated');
  });

  it('keeps notes, and nothing after stop', () => {
    const transcript = new Transcript();
    transcript.note('before');
    transcript.stop();
    transcript.note('after');
    transcript.observe(CANCEL, 1);
    expect(transcript.entries).toEqual([{ type: 'note', at: 0, until: 0, text: 'before' }]);
  });

  it('knows when the connection began, on this process’s clock', () => {
    const transcript = new Transcript();
    expect(transcript.origin).toBeNull();
    const start = performance.now();
    transcript.observe(CANCEL, 0);
    expect(transcript.origin).toBeGreaterThanOrEqual(start);
    expect(transcript.origin).toBeLessThanOrEqual(performance.now());
  });

  for (const limit of [0, 7, 8.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    it(`refuses a limit of ${limit}`, () => {
      expect(() => new Transcript({ limit })).toThrow(RangeError);
    });
  }
});
