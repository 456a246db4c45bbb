/** What the output looks like depends on where it goes. */
import { describe, expect, it } from 'vitest';
import { defaultPort } from '../../../src/cli/connection.ts';
import { parseTarget, targetText } from '../../../src/cli/target.ts';
import { fold, printableName, terminalOf, wrap } from '../../../src/cli/terminal.ts';

/** A stream as `process.stdout` is one, on a terminal or not. */
function output(isTTY: boolean, columns = 100) {
  const written: string[] = [];
  const stream = {
    isTTY,
    columns,
    hasColors: () => true,
    write: (text: string) => written.push(text),
  };
  return { written, stream: stream as unknown as Parameters<typeof terminalOf>[0] };
}

const ASKED = { color: true, ascii: false };

describe('terminalOf', () => {
  const cases: ReadonlyArray<
    readonly [string, boolean, Partial<typeof ASKED>, NodeJS.ProcessEnv, object]
  > = [
    ['a terminal', true, {}, {}, { colour: true, live: true, width: 100, charset: 'unicode' }],
    ['a pipe', false, {}, {}, { colour: false, live: false, width: 80, charset: 'unicode' }],
    ['a pipe with COLUMNS', false, {}, { COLUMNS: '120' }, { width: 120 }],
    ['NO_COLOR', true, {}, { NO_COLOR: '1' }, { colour: false, live: true }],
    ['an empty NO_COLOR', true, {}, { NO_COLOR: '' }, { colour: true }],
    ['--no-color', true, { color: false }, {}, { colour: false, live: true }],
    ['--ascii', true, { ascii: true }, {}, { charset: 'ascii' }],
    ['a dumb terminal', true, {}, { TERM: 'dumb' }, { colour: false, live: false }],
    ['a UTF-8 locale', true, {}, { LANG: 'de_DE.UTF-8' }, { charset: 'unicode' }],
    ['another locale', true, {}, { LANG: 'C' }, { charset: 'ascii' }],
    ['LC_ALL before LANG', true, {}, { LANG: 'C', LC_ALL: 'C.utf8' }, { charset: 'unicode' }],
  ];
  for (const [name, isTTY, asked, env, expected] of cases) {
    it(name, () => {
      const { stream } = output(isTTY);
      expect(terminalOf(stream, { ...ASKED, ...asked }, env)).toMatchObject(expected);
    });
  }

  it('breaks a paragraph only for a person', () => {
    const sentence = 'word '.repeat(40).trim();
    const person = output(true, 50);
    terminalOf(person.stream, ASKED, {}).paragraph(sentence);
    expect(person.written.join('').trimEnd().split('\n').length).toBeGreaterThan(1);
    const pipe = output(false);
    terminalOf(pipe.stream, ASKED, {}).paragraph(sentence);
    expect(pipe.written).toEqual([`${sentence}\n`]);
  });
});

describe('wrap', () => {
  it('counts no colours', () => {
    expect(wrap('\u001b[31maaaa\u001b[39m bbbb', 9)).toBe('\u001b[31maaaa\u001b[39m bbbb\n');
  });
  it('leaves a word whole that is too long', () => {
    expect(wrap('a bbbbbbbbbb c', 5)).toBe('a\nbbbbbbbbbb\nc\n');
  });
});

describe('fold', () => {
  const unicode = { charset: 'unicode' } as const;
  const cases: ReadonlyArray<readonly [string, string, number, object, readonly string[]]> = [
    ['what fits', 'aa bb', 5, {}, ['aa bb']],
    ['between words', 'aa bb', 4, {}, ['aa', 'bb']],
    ['after what is asked for', 'CN=a,O=b', 6, { after: ',' }, ['CN=a,', 'O=b']],
    ['not after an escaped character', 'a\\,b c', 5, { after: ',' }, ['a\\,b', 'c']],
    ['what follows stands further in', 'aaaa bbbb', 4, { hang: 1 }, ['aaaa', 'bb', 'bb']],
    ['nothing', '', 4, {}, ['']],
  ];
  for (const [name, text, width, options, lines] of cases) {
    it(name, () => expect(fold(text, width, { ...unicode, ...options })).toEqual(lines));
  }

  it('breaks a word that is too long, and loses nothing', () => {
    const lines = fold('日本語の組織名'.repeat(3), 10, unicode);
    expect(lines.join('')).toBe('日本語の組織名'.repeat(3));
    for (const line of lines) expect([...line].length * 2).toBeLessThanOrEqual(10);
  });
});

describe('printableName', () => {
  it('writes as hexadecimal what would move the cursor or turn the text', () => {
    const name = 'CN=a\u001b[2J\u009b1m\u202eb\nc';
    expect(printableName(name, 'unicode')).toBe('CN=a\\1b[2J\\c2\\9b1m\\e2\\80\\aeb\\0ac');
  });
  it('and what the character set lacks', () => {
    expect(printableName('CN=Prüfstelle', 'unicode')).toBe('CN=Prüfstelle');
    expect(printableName('CN=Prüfstelle', 'ascii')).toBe('CN=Pr\\c3\\bcfstelle');
  });
});

describe('defaultPort', () => {
  const cases = [
    [undefined, 443],
    ['smtp', 25],
    ['postgres', 5432],
  ] as const;
  for (const [starttls, port] of cases) {
    it(`${starttls}`, () => {
      const asked = defaultPort(starttls === undefined ? {} : { starttls });
      expect(parseTarget('localhost', asked)).toEqual({ host: 'localhost', port });
      expect(parseTarget('localhost:1', asked)).toEqual({ host: 'localhost', port: 1 });
    });
  }
});

describe('parseTarget', () => {
  const cases = [
    ['example.org', 'example.org', 443],
    ['example.org:8443', 'example.org', 8443],
    ['127.0.0.1:1', '127.0.0.1', 1],
    ['[::1]', '::1', 443],
    ['[2001:db8::1]:65535', '2001:db8::1', 65535],
  ] as const;
  for (const [text, host, port] of cases) {
    it(text, () => {
      expect(parseTarget(text)).toEqual({ host, port });
      expect(parseTarget(targetText({ host, port }))).toEqual({ host, port });
    });
  }
});
