/** A saved transcript: the published schema and the reader hold each other to the same form. */
import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openPair, play } from '../../../src/cli/play.ts';
import { SCENARIOS } from '../../../src/cli/scenarios.ts';
import { drawLanes, renderHtml, renderMermaid, renderSvg, renderText } from '../../../src/index.ts';
import type { Observation } from '../../../src/transcript/observer.ts';
import { Transcript } from '../../../src/transcript/transcript.ts';

const schema = JSON.parse(
  readFileSync(new URL('../../../schema/transcript.schema.json', import.meta.url), 'utf8'),
);
const validate = new Ajv2020({ strictTypes: false }).compile(schema);

/** As it is read from a file. */
const saved = (transcript: Transcript): Record<string, unknown> =>
  JSON.parse(JSON.stringify(transcript));

/** One of everything that an observer can be told of. */
function everything(): Transcript {
  const transcript = new Transcript({ local: 'us', peer: 'them' });
  const observations: Observation[] = [
    { type: 'phase', name: 'resolve' },
    { type: 'record', direction: 'sent', contentType: 22, length: 300 },
    { type: 'phase', name: 'handshake', protocol: 'TLSv1.3' },
    { type: 'data', direction: 'sent', bytes: 10 },
    { type: 'call', name: 'close', detail: 'wait: false' },
    { type: 'deadline', phase: 'shutdown', ms: 100 },
    { type: 'deadline', phase: 'read' },
    { type: 'close-notify', direction: 'sent' },
    {
      type: 'alert',
      direction: 'received',
      alert: { code: null, name: 'unknown', authenticated: true },
    },
    { type: 'transport-eof', where: 'inside-record' },
    { type: 'transport-reset', where: 'unknown', code: 'ECONNRESET' },
    { type: 'transport-error', where: 'handshake', code: 'EHOSTUNREACH' },
    { type: 'transport-closed', how: 'destroy' },
    { type: 'trailing', bytes: 3 },
    { type: 'verdict', verdict: 'alert' },
  ];
  for (const [at, observation] of observations.entries()) transcript.observe(observation, at);
  transcript.note('a remark');
  return transcript;
}

describe('what toJSON gives', () => {
  it('is valid, and reads back as the same', () => {
    const json = saved(everything());
    expect(validate(json), JSON.stringify(validate.errors)).toBe(true);
    const read = Transcript.fromJSON(json);
    expect(saved(read)).toEqual({ ...json, origin: expect.closeTo(json['origin'] as number, 3) });
    expect(read.verdict).toBe('alert');
  });

  it.each(SCENARIOS)('is so of scenario $number, and draws the same', async (scenario) => {
    await using pair = await openPair({ protocol: 'TLSv1.3', deadline: 50 });
    await play(scenario, pair.A, pair.B);
    for (const { transcript } of [pair.A, pair.B]) {
      const json = saved(transcript);
      expect(validate(json), JSON.stringify(validate.errors)).toBe(true);
      const draw = (one: Transcript) => renderText(drawLanes({ name: 'us', transcript: one }, 'B'));
      expect(draw(Transcript.fromJSON(json))).toBe(draw(transcript));
    }
  });

  it('keeps head and dropped, and takes nothing more', () => {
    const transcript = new Transcript({ limit: 8 });
    for (let at = 0; at < 30; at++) {
      transcript.observe({ type: 'call', name: 'cancel', detail: 'read' }, at);
    }
    const read = Transcript.fromJSON(saved(transcript));
    expect(read).toMatchObject({ head: 4, dropped: 22 });
    read.note('more');
    expect(read.entries).toHaveLength(8);
  });

  it('has room for any text, but not for all of it', () => {
    const transcript = new Transcript({ peer: 'x'.repeat(5_000) });
    const code = '\u{1f600}'.repeat(3_000);
    transcript.observe({ type: 'transport-error', where: 'unknown', code }, 1);
    transcript.note('y'.repeat(5_000));
    const json = saved(transcript);
    expect(validate(json), JSON.stringify(validate.errors)).toBe(true);
    expect(() => Transcript.fromJSON(json)).not.toThrow();
  });
});

describe('what fromJSON refuses', () => {
  const whole = saved(everything());
  const cases: ReadonlyArray<readonly [string, unknown, string]> = [
    ['nothing', undefined, 'it must be an object'],
    ['a list', [], 'it must be an object'],
    ['another version', { ...whole, version: 2 }, '/version must be 1'],
    ['an unknown field', { ...whole, more: 1 }, 'must not have the field "more"'],
    ['a missing field', { ...whole, verdict: undefined }, '/verdict must be open or'],
    ['more head than entries', { ...whole, head: 1e6 }, '/head must not be more'],
    ['entries that are none', { ...whole, entries: [null] }, '/entries/0 must be an object'],
    [
      'an entry of another type',
      { ...whole, entries: [{ type: 'constructor', at: 0, until: 0 }] },
      '/entries/0/type must be traffic or',
    ],
    [
      'a time that is none',
      { ...whole, entries: [{ type: 'note', at: '0', until: 0, text: '' }] },
      '/entries/0/at must be a number',
    ],
    [
      'a record observed',
      { ...whole, entries: [{ type: 'event', at: 0, until: 0, observation: { type: 'record' } }] },
      '/entries/0/observation/type must be phase or',
    ],
  ];
  it.each(cases)('%s', (_, json, message) => {
    expect(() => Transcript.fromJSON(json)).toThrow(
      expect.objectContaining({
        code: 'ERR_TLS_OPTION',
        message: expect.stringContaining(message),
      }),
    );
  });

  it('a field that an object inherits', () => {
    const json = JSON.parse('{"__proto__": {"format": "close-notify-transcript"}}');
    expect(() => Transcript.fromJSON(json)).toThrow('/format is missing');
    expect(() => Transcript.fromJSON(Object.create(whole))).toThrow('is missing');
  });

  it('exactly what the schema refuses, and nothing else happens to it', () => {
    const paths = pathsOf(whole);
    const value = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom(-1, 0, 1.5, 256, 1e16, null, true, '', 'x'.repeat(1_001), [], {}),
      fc.constantFrom('sent', 'secure', 'phase', 'alert', 'note', 'event', 'handshake', 'warning'),
    );
    const change = fc.record({
      path: fc.constantFrom(...paths),
      how: fc.constantFrom('set', 'delete', 'add'),
      value,
    });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const json = structuredClone(whole);
        for (const one of changes) apply(json, one);
        let read: Transcript | null = null;
        try {
          read = Transcript.fromJSON(json);
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_TLS_OPTION' });
          const { head, entries } = json;
          // The one thing that a schema cannot say.
          const tooMuchHead = Array.isArray(entries) && (head as number) > entries.length;
          expect(validate(json) && !tooMuchHead).toBe(false);
        }
        if (read === null) return;
        expect(validate(json), JSON.stringify(validate.errors)).toBe(true);
        // Whatever is accepted can be drawn.
        const drawing = drawLanes({ name: 'us', transcript: read }, 'them');
        for (const render of [renderText, renderSvg, renderMermaid, renderHtml]) render(drawing);
      }),
      { numRuns: 500 },
    );
  });
});

type Path = readonly (string | number)[];

function pathsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  const inner = Object.entries(value).flatMap(([key, one]) => pathsOf(one, [...path, key]));
  return [path, ...inner].filter(({ length }) => length > 0);
}

function apply(
  json: Record<string, unknown>,
  { path, how, value }: { path: Path; how: string; value: unknown },
): void {
  let holder: unknown = json;
  for (const key of path.slice(0, -1)) holder = (holder as Record<string, unknown>)?.[key];
  if (typeof holder !== 'object' || holder === null) return;
  const fields = holder as Record<string, unknown>;
  const last = String(path.at(-1));
  if (how === 'set') fields[last] = structuredClone(value);
  else if (how === 'delete' && !Array.isArray(holder)) delete fields[last];
  else if (how === 'add' && !Array.isArray(holder)) fields['more'] = structuredClone(value);
}

describe('memory', () => {
  it('a million records stay a handful of entries, of no more bytes than before', () => {
    const transcript = new Transcript();
    const record: Observation = { type: 'record', direction: 'sent', contentType: 23, length: 100 };
    for (let at = 0; at < 1_000_000; at++) transcript.observe(record, at);
    expect(transcript.entries).toHaveLength(1);
    expect(transcript.entries[0]).toMatchObject({ records: 1_000_000, wireBytes: 100_000_000 });
  });

  it('a million records in turn stay within the limit, and within a size', () => {
    const transcript = new Transcript();
    for (let at = 0; at < 1_000_000; at++) {
      const direction = at % 2 === 0 ? 'sent' : 'received';
      transcript.observe({ type: 'record', direction, contentType: 23, length: 100 }, at);
    }
    expect(transcript.entries).toHaveLength(200);
    expect(JSON.stringify(transcript).length).toBeLessThan(100_000);
  });

  it('records that wait for a key that never comes do not pile up', () => {
    const transcript = new Transcript();
    const hello = Buffer.from(`16030100${'2a'}01000026${'0303'}${'ab'.repeat(32)}000000`, 'hex');
    transcript.onBytes?.('sent', hello, 0);
    const sealed = Buffer.from(`1703030020${'cd'.repeat(32)}`, 'hex');
    for (let at = 0; at < 100_000; at++) transcript.onBytes?.('received', sealed, at);
    expect(transcript.entries.length).toBeLessThanOrEqual(200);
    const received = transcript.entries.find(
      (entry) => entry.type === 'traffic' && entry.direction === 'received',
    );
    expect(received).toMatchObject({ records: 100_000 });
  });
});
