/** Swim lanes: what a reader finds in them, and that they fit. */
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { Drawing } from '../../../src/drawing/drawing.ts';
import { drawLanes } from '../../../src/drawing/lanes.ts';
import { renderText } from '../../../src/drawing/text.ts';
import type { Observation } from '../../../src/transcript/observer.ts';
import { Transcript } from '../../../src/transcript/transcript.ts';

/** A transcript of observations, one a millisecond. */
function transcriptOf(...observations: Observation[]): Transcript {
  const transcript = new Transcript();
  for (const [at, observation] of observations.entries()) transcript.observe(observation, at);
  return transcript;
}

const HANDSHAKE: Observation = { type: 'phase', name: 'handshake' };
const SHUTDOWN: Observation = { type: 'call', name: 'shutdown', detail: null };
const SENT: Observation = { type: 'close-notify', direction: 'sent' };
const RECEIVED: Observation = { type: 'close-notify', direction: 'received' };
const EOF: Observation = { type: 'transport-eof', where: 'record-boundary' };
const record = (direction: 'sent' | 'received', contentType = 23): Observation => ({
  type: 'record',
  direction,
  contentType,
  length: 100,
});

/** One of everything. */
const EVERYTHING = (): Transcript =>
  transcriptOf(
    { type: 'phase', name: 'resolve' },
    { type: 'phase', name: 'connect' },
    record('sent', 22),
    record('received', 22),
    HANDSHAKE,
    { type: 'data', direction: 'sent', bytes: 1_234_567 },
    record('sent'),
    record('received'),
    { type: 'data', direction: 'received', bytes: 1 },
    { type: 'call', name: 'close', detail: 'wait: false' },
    { type: 'call', name: 'cancel', detail: 'shutdown' },
    { type: 'call', name: 'abort', detail: null },
    { type: 'call', name: 'unwrap', detail: null },
    { type: 'deadline', phase: 'shutdown' },
    SENT,
    {
      type: 'alert',
      direction: 'received',
      alert: { code: 113, name: 'bad_certificate_status_response', authenticated: true },
    },
    { type: 'transport-eof', where: 'inside-record' },
    { type: 'transport-reset', where: 'record-boundary', code: 'ECONNRESET' },
    { type: 'transport-error', where: 'record-boundary', code: 'EHOSTUNREACH' },
    { type: 'transport-closed', how: 'end' },
    { type: 'transport-closed', how: 'destroy' },
    { type: 'trailing', bytes: 12 },
    { type: 'verdict', verdict: 'truncated' },
  );

const text = (drawing: Drawing, width = 80) => renderText(drawing, { width });

describe('width', () => {
  const name = 'a.very.long.host.name.that.does.not.fit.anywhere.example.org:65535';
  const transcript = EVERYTHING();
  transcript.note(
    'a remark \u001b[31m with control characters\r\n, wide ones 漢字漢字漢字, and more',
  );
  const drawings = {
    'one transcript': drawLanes({ name, transcript }, name),
    'two transcripts': drawLanes(
      { name, transcript },
      { name: `${name}!`, transcript: EVERYTHING() },
      { offset: 0 },
    ),
  };
  for (const [what, drawing] of Object.entries(drawings)) {
    for (const charset of ['unicode', 'ascii'] as const) {
      it(`${what}, ${charset}: no line exceeds 40 to 200 columns, nor breaks`, () => {
        for (let width = 40; width <= 200; width++) {
          const lines = renderText(drawing, { width, charset, colour: true }).split('\n');
          expect(lines.pop()).toBe('');
          const feet = 3;
          // From 72 columns on the layers have names.
          const head = width < 72 ? 1 : 2;
          expect(lines).toHaveLength(head + drawing.rows.length + feet);
          for (const line of lines) {
            const bare = stripVTControlCharacters(line);
            // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be left
            expect(bare).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
            const wide = bare.match(/[漢字]/g)?.length ?? 0;
            expect([...bare].length + wide).toBeLessThanOrEqual(width);
          }
        }
      });
    }
  }

  it('ASCII is ASCII', () => {
    const drawing = drawings['two transcripts'];
    expect(renderText(drawing, { charset: 'ascii' })).toMatch(/^[\n -~]*$/);
  });

  it('colour changes nothing but colour', () => {
    const drawing = drawings['two transcripts'];
    const coloured = renderText(drawing, { colour: true });
    const plain = renderText(drawing);
    expect(coloured).not.toBe(plain);
    const trimmed = stripVTControlCharacters(coloured).replace(/ +$/gm, '');
    expect(trimmed).toBe(plain);
  });
});

describe('one transcript', () => {
  it('folds the handshake into one row', () => {
    const transcript = transcriptOf(record('sent', 22), record('received', 22), HANDSHAKE);
    const { rows } = drawLanes({ name: 'us', transcript }, 'peer', { protocol: 'TLSv1.3' });
    const text = 'handshake TLSv1.3';
    expect(rows).toEqual([{ kind: 'span', at: 2, tone: 'plain', text, details: [] }]);
  });

  it('shows the records of a handshake that was not completed', () => {
    const transcript = transcriptOf(record('sent', 22), {
      type: 'transport-eof',
      where: 'handshake',
    });
    const drawn = text(drawLanes({ name: 'us', transcript }, 'peer'));
    expect(drawn).toContain('handshake: 1 record, 100 bytes');
    expect(drawn).toContain('FIN during the handshake');
  });

  it('says that FIN came without close_notify, and who sent none', () => {
    const transcript = transcriptOf(HANDSHAKE, SHUTDOWN, SENT, EOF, {
      type: 'verdict',
      verdict: 'truncated',
    });
    const drawing = drawLanes({ name: 'us', transcript }, 'peer');
    expect(drawing.rows.slice(-2)).toMatchObject([
      { kind: 'arrow', from: 1, style: 'eof', tone: 'bad' },
      { kind: 'tear', tone: 'bad', text: 'TRUNCATED: the last bytes may be missing' },
    ]);
    expect(drawing.feet).toMatchObject([
      { verdict: 'truncated', sentCloseNotify: true, missed: false },
      { verdict: null, sentCloseNotify: false, missed: true },
    ]);
    expect(text(drawing)).toContain('FIN without close_notify');
  });

  it('does not blame FIN after close_notify', () => {
    const transcript = transcriptOf(HANDSHAKE, SHUTDOWN, SENT, RECEIVED, EOF);
    const drawn = text(drawLanes({ name: 'us', transcript }, 'peer'));
    expect(drawn).toContain(' FIN ');
    expect(drawn).not.toContain('without');
  });

  it('draws the close_notify that never came', () => {
    const transcript = transcriptOf(HANDSHAKE, SHUTDOWN, SENT, {
      type: 'deadline',
      phase: 'shutdown',
    });
    const { rows } = drawLanes({ name: 'us', transcript }, 'peer');
    expect(rows.at(-1)).toMatchObject({
      from: 1,
      style: 'missing',
      text: 'close_notify never came',
    });
  });

  it('says where entries are missing', () => {
    const transcript = new Transcript({ limit: 8 });
    for (let at = 0; at < 20; at++) transcript.observe(SHUTDOWN, at);
    expect(text(drawLanes({ name: 'us', transcript }, 'peer'))).toContain('12 entries not kept');
  });
});

describe('layers', () => {
  const transcript = transcriptOf(HANDSHAKE, SHUTDOWN, SENT, EOF);
  transcript.note('shutdown() rejects: ERR_TLS_TRUNCATED');
  const drawing = drawLanes({ name: 'us', transcript }, 'peer', { timed: false });

  it('a call goes from the application to TLS, close_notify from TLS, FIN to the transport', () => {
    expect(renderText(drawing, { width: 72 })).toBe(
      `
  us                                                               peer
 app TLS TCP
  │   │◀─────────────────────────── handshake ───────────────────────▶│
  ├──▸│   │ shutdown()                                                │
  │   ├═════════════════════════ ✓ close_notify ═════════════════════▶│
  │   │   │◁╌╌╌╌╌╌╌╌╌╌╌╌╌╌ ■ FIN without close_notify ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌┤
  ╱╲╱╲╱╲╱╲╱╲╱╲╱╲╱╲╱ TRUNCATED: the last bytes may be missing ╲╱╲╱╲╱╲╱╲╱
  │◂──┤   │ shutdown() rejects: ERR_TLS_TRUNCATED                     │
  ┴───┴───┴───────────────────────────────────────────────────────────┴
  verdict: open
  ✓ sent close_notify                          ? close_notify: not seen
`.slice(1),
    );
  });

  it('one vertical a party where there is no room for three', () => {
    const lines = renderText(drawing, { width: 71 }).split('\n');
    expect(lines[2]).toMatch(/^ {2}│ shutdown\(\) +│$/);
  });
});

describe('waits', () => {
  it('take their share of the height, and say how long they were', () => {
    const transcript = new Transcript();
    transcript.observe(HANDSHAKE, 0);
    transcript.observe(SHUTDOWN, 10);
    transcript.observe(SENT, 12);
    transcript.observe({ type: 'deadline', phase: 'shutdown', ms: 5_000 }, 5_012);
    const drawing = drawLanes({ name: 'us', transcript }, 'peer');
    const wait = drawing.rows.find(({ kind }) => kind === 'wait');
    expect(wait).toMatchObject({ ms: 5_000, text: 'nothing for 5.0 s' });
    const drawn = text(drawing);
    expect(drawn.match(/┊.*┊$/gm)).toHaveLength(5);
    expect(drawn).toContain('the deadline of 5.0 s for shutdown has passed');
  });

  it('are none in a drawing without a clock', () => {
    const transcript = new Transcript();
    transcript.observe(HANDSHAKE, 0);
    transcript.observe(SENT, 5_000);
    const { rows } = drawLanes({ name: 'us', transcript }, 'peer', { timed: false });
    expect(rows.map(({ kind }) => kind)).toEqual(['span', 'arrow']);
  });
});

describe('two transcripts', () => {
  it('makes one arrow of what left one side and reached the other', () => {
    const a = transcriptOf(HANDSHAKE, SHUTDOWN, SENT, RECEIVED);
    const b = transcriptOf(HANDSHAKE, RECEIVED, SHUTDOWN, SENT);
    const { rows } = drawLanes(
      { name: 'A', transcript: a },
      { name: 'B', transcript: b },
      { offset: 0.5 },
    );
    const arrows = rows.filter(({ kind }) => kind === 'arrow');
    expect(arrows).toMatchObject([
      { from: 0, style: 'close-notify', arrives: true },
      { from: 1, style: 'close-notify', arrives: true },
    ]);
    expect(rows.filter(({ kind }) => kind === 'span')).toHaveLength(1);
    expect(rows.map(({ at }) => at)).toEqual(rows.map(({ at }) => at).sort((x, y) => x - y));
  });

  it('puts the right lane on the left one’s clock', () => {
    const b = transcriptOf(SHUTDOWN);
    const lanes = [
      { name: 'A', transcript: transcriptOf(HANDSHAKE) },
      { name: 'B', transcript: b },
    ] as const;
    expect(drawLanes(...lanes, { offset: 7 }).rows.at(-1)).toMatchObject({ lane: 1, at: 7 });
  });

  it('shows a close_notify that nobody read', () => {
    const a = transcriptOf(HANDSHAKE, SHUTDOWN, SENT);
    const b = transcriptOf(HANDSHAKE);
    const drawing = drawLanes({ name: 'A', transcript: a }, { name: 'B', transcript: b });
    expect(drawing.rows.at(-1)).toMatchObject({ style: 'close-notify', arrives: false });
    expect(text(drawing)).toContain('close_notify, not read');
  });

  it('lets the receiver say how the transport ended', () => {
    const a = transcriptOf(HANDSHAKE, {
      type: 'transport-reset',
      where: 'record-boundary',
      code: 'ECONNRESET',
    });
    const b = transcriptOf(HANDSHAKE, { type: 'transport-closed', how: 'destroy' });
    const { rows } = drawLanes({ name: 'A', transcript: a }, { name: 'B', transcript: b });
    const arrows = rows.filter(({ kind }) => kind === 'arrow');
    expect(arrows).toMatchObject([{ from: 1, style: 'reset', text: 'RST without close_notify' }]);
  });

  it('in the order of cause and effect: the same whatever the clocks were', () => {
    const note = (transcript: Transcript, words: string, at: number) => {
      transcript.note(words, at);
      return transcript;
    };
    const drawings = [0.2, 3.7].map((delay) => {
      const a = new Transcript();
      a.observe(HANDSHAKE, 0);
      a.observe(SHUTDOWN, 1);
      a.observe(SENT, 2);
      a.observe(RECEIVED, 6);
      note(a, 'shutdown() resolves: secure', 6 + delay);
      const b = new Transcript();
      b.observe(HANDSHAKE, 0);
      b.observe(RECEIVED, 3);
      b.observe(SHUTDOWN, 4);
      b.observe(SENT, 5);
      note(b, 'shutdown() resolves: secure', 8);
      return drawLanes(
        { name: 'A', transcript: a },
        { name: 'B', transcript: b },
        { offset: 0, timed: false },
      );
    });
    expect(drawings[0]?.rows).toEqual(drawings[1]?.rows);
    expect(drawings[0]?.rows.map((row) => row.text)).toEqual([
      ...['handshake', 'shutdown()', 'close_notify', 'shutdown()', 'close_notify'],
      ...['shutdown() resolves: secure', 'shutdown() resolves: secure'],
    ]);
    expect(drawings[0]?.rows.map(({ at }) => at)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it('does not blame the side that ended its transport second', () => {
    const a = transcriptOf(
      HANDSHAKE,
      EOF,
      { type: 'transport-closed', how: 'end' },
      {
        type: 'verdict',
        verdict: 'truncated',
      },
    );
    const b = transcriptOf(
      HANDSHAKE,
      { type: 'transport-closed', how: 'destroy' },
      {
        type: 'verdict',
        verdict: 'aborted',
      },
    );
    const { rows, feet } = drawLanes({ name: 'A', transcript: a }, { name: 'B', transcript: b });
    expect(rows.filter(({ kind }) => kind === 'arrow')).toMatchObject([
      { from: 1, tone: 'bad' },
      { from: 0, tone: 'quiet', text: 'FIN' },
    ]);
    expect(feet.map(({ missed }) => missed)).toEqual([false, true]);
  });
});
