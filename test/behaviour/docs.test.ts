/**
 * The code in README.md and docs/: all of it compiles. On docs/upgrading.md, what is 'before' compiles with the types
 * that it was written for, and does not compile with those of today.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const UPGRADING = 'docs/upgrading.md';
const pages = [
  'README.md',
  ...readdirSync(`${ROOT}docs`, { encoding: 'utf8', recursive: true })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

interface Snippet {
  readonly page: string;
  /** The line on which it begins, from 1. */
  readonly line: number;
  readonly when: 'before' | 'now';
  readonly code: string;
}

/** What stands in a fence ```ts; the word behind it may be 'before' or 'now'. */
function snippetsOf(page: string): Snippet[] {
  const text = readFileSync(ROOT + page, 'utf8');
  return [...text.matchAll(/^```ts(?: (before|now))?\n(.*?)^```$/gms)].map((found) => ({
    page,
    line: text.slice(0, found.index).split('\n').length,
    when: found[1] === 'before' ? 'before' : 'now',
    code: found[2] as string,
  }));
}

/** What had another type before, and only that; behind it everything of today. */
const BEFORE = `
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import * as today from 'close-notify';
export * from 'close-notify';
export type Closure = Omit<today.Closure, 'sent' | 'received'> &
  { readonly sent: number | null; readonly received: number | null };
export type TlsStream = Omit<today.TlsStream, 'closure'> &
  { readonly socket: TLSSocket; readonly closure: Closure };
export declare function connect(options: Omit<today.ConnectOptions, 'clientCertificate'> & {
  highWaterMark?: number;
  clientCertificate?: (options: today.ConnectOptions) => Promise<Pick<today.ConnectOptions, 'key' | 'cert'>>;
}): Promise<TlsStream>;
export type TlsServer = Omit<today.TlsServer, 'listen' | 'close'> & {
  listen(port?: number, host?: string): Promise<number>;
  close(options?: { readonly abort?: boolean }): Promise<void>;
};
export declare function createServer(
  options: Omit<today.ServerOptions, 'onError'> & { onError?: (error: Error, transport: Socket) => void },
  onStream: (stream: TlsStream, transport: Socket) => unknown,
): TlsServer;
export type ErrorCode = Exclude<today.ErrorCode, 'ERR_TLS_TAKEN' | 'ERR_TLS_KEY_UPDATE' | 'ERR_TLS_MALFORMED' | 'ERR_TLS_RUNTIME'>;
export type TruncatedMessage = Omit<today.TruncatedMessage, 'error'> & { readonly error: today.TruncatedError };
`;

/** What snippets use and do not make. */
const GIVEN = `
  stream: TlsStream, host: string, port: number, signal: AbortSignal, tlsOptions: { ca: string },
  key: string, cert: string, passphrase: string, url: string, data: Uint8Array,
  use: (value: unknown) => void, sessions: Map<string, Uint8Array>,
  others: Record<Exclude<import('close-notify').ErrorCode, 'ERR_TLS_TAKEN' | 'ERR_TLS_KEY_UPDATE' | 'ERR_TLS_MALFORMED' | 'ERR_TLS_RUNTIME'>, boolean>,
  source: NodeJS.ReadableStream & AsyncIterable<Buffer>, sink: NodeJS.WritableStream,
  onResponse: (response: import('node:http').IncomingMessage) => void,
  onRequest: import('node:http').RequestListener,
  transcript: import('close-notify').Transcript,
  myAdapter: import('close-notify/testing').Adapter,
  test: (name: string, run: () => Promise<void>) => void,`;

const IMPORT = /^import [^;]*?from '[^']+';?\n/gm;

/** A snippet as a file of its own, in a block, since it may give a name of its own to what is given. */
function fileOf({ code }: Snippet, library: string): string {
  const imports = (code.match(IMPORT) ?? []).join('').replaceAll("'close-notify'", `'${library}'`);
  const body = code.replaceAll(IMPORT, '');
  return `${imports}import type { TlsStream } from '${library}';
async function example(${GIVEN}) {{
${body}
}}
export { example };`;
}

const { options } = ts.parseJsonConfigFileContent(
  ts.readConfigFile(`${ROOT}tsconfig.json`, ts.sys.readFile).config,
  ts.sys,
  ROOT,
);

/** What the compiler says of each of these files, which are nowhere but here; all in one go. */
function compile(files: ReadonlyMap<string, string>): Map<string, string[]> {
  const at = (name: string) => `${ROOT}test/behaviour/${name}`;
  const texts = new Map<string, string>([[at('before.ts'), BEFORE]]);
  for (const [name, text] of files) texts.set(at(name), text);
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (name) => texts.has(name) || fileExists(name);
  host.readFile = (name) => texts.get(name) ?? readFile(name);
  host.getSourceFile = (name, version, ...rest) => {
    const text = texts.get(name);
    if (text === undefined) return getSourceFile(name, version, ...rest);
    return ts.createSourceFile(name, text, version);
  };
  const program = ts.createProgram([...texts.keys()], options, host);
  return new Map(
    [...texts.keys()].map((name) => [
      name.slice(at('').length),
      ts
        .getPreEmitDiagnostics(program, program.getSourceFile(name))
        .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')),
    ]),
  );
}

const snippets = pages.flatMap(snippetsOf);
const nameOf = ({ page, line }: Snippet) => `${page}:${line}`;

test('the code on the pages compiles, and what is gone does not', { timeout: 60_000 }, () => {
  const files = new Map<string, string>();
  snippets.forEach((snippet, i) => {
    files.set(`today-${i}.ts`, fileOf(snippet, 'close-notify'));
    if (snippet.when === 'before') files.set(`before-${i}.ts`, fileOf(snippet, './before.ts'));
  });
  const said = compile(files);
  expect(said.get('before.ts')).toEqual([]);
  const wrong = snippets.flatMap((snippet, i) => {
    const today = said.get(`today-${i}.ts`) ?? ['not compiled'];
    if (snippet.when === 'now') return today.map((message) => `${nameOf(snippet)}: ${message}`);
    const then = said.get(`before-${i}.ts`) ?? ['not compiled'];
    if (today.length === 0) then.push('compiles today, so nothing has changed');
    return then.map((message) => `${nameOf(snippet)}, before: ${message}`);
  });
  expect(wrong).toEqual([]);
});

test('there is code to look at', () => {
  const upgrading = snippets.filter(({ page }) => page === UPGRADING);
  for (const when of ['before', 'now']) {
    expect(upgrading.filter((one) => one.when === when).length, when).toBeGreaterThan(5);
  }
  expect(new Set(snippets.map(({ page }) => page))).toContain('README.md');
});
