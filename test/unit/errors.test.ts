import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { INITIAL } from '../../src/closure/machine.ts';
import { closureOf } from '../../src/closure/verdict.ts';
import * as errors from '../../src/errors.ts';

/** The members of the union `ErrorCode`, from the source: types are gone at run time. */
function codes(): string[] {
  const text = readFileSync(new URL('../../src/errors.ts', import.meta.url), 'utf8');
  const source = ts.createSourceFile('errors.ts', text, ts.ScriptTarget.Latest, true);
  for (const statement of source.statements) {
    if (!ts.isTypeAliasDeclaration(statement) || statement.name.text !== 'ErrorCode') continue;
    const { type } = statement;
    if (!ts.isUnionTypeNode(type)) break;
    return type.types.map((one) => {
      if (!ts.isLiteralTypeNode(one) || !ts.isStringLiteral(one.literal)) throw new Error('a name');
      return one.literal.text;
    });
  }
  throw new Error('no union ErrorCode in errors.ts');
}

const made: ReadonlyArray<readonly [string, errors.CloseNotifyError, string, string | null]> = [
  ['ResolveError', new errors.ResolveError('m'), 'ERR_TLS_RESOLVE', 'resolve'],
  ['ConnectError', new errors.ConnectError('m'), 'ERR_TLS_CONNECT', 'connect'],
  ['HandshakeError', new errors.HandshakeError('m'), 'ERR_TLS_HANDSHAKE', 'handshake'],
  ['CertificateError', new errors.CertificateError('m'), 'ERR_TLS_CERTIFICATE', 'handshake'],
  ['TruncatedError', new errors.TruncatedError('m'), 'ERR_TLS_TRUNCATED', null],
  ['AlertError', new errors.AlertError('m'), 'ERR_TLS_ALERT', null],
  ['TimeoutError', new errors.TimeoutError('m'), 'ERR_TLS_TIMEOUT', null],
  ['AbortedError', new errors.AbortedError('m'), 'ERR_TLS_ABORTED', null],
  ['ShutdownError', new errors.ShutdownError('m'), 'ERR_TLS_SHUTDOWN', 'write'],
  ['UsageError', new errors.UsageError('ERR_TLS_READ_PENDING', 'm'), 'ERR_TLS_READ_PENDING', null],
  ['UsageError', new errors.UsageError('ERR_TLS_TAKEN', 'm'), 'ERR_TLS_TAKEN', null],
  ['UsageError', new errors.UsageError('ERR_TLS_NOT_SHUTDOWN', 'm'), 'ERR_TLS_NOT_SHUTDOWN', null],
  ['UsageError', new errors.UsageError('ERR_TLS_REMOVED', 'm'), 'ERR_TLS_REMOVED', null],
  ['UsageError', new errors.UsageError('ERR_TLS_KEY_UPDATE', 'm'), 'ERR_TLS_KEY_UPDATE', null],
  ['OptionError', new errors.OptionError('m'), 'ERR_TLS_OPTION', 'options'],
  ['MalformedError', new errors.MalformedError('m', 0), 'ERR_TLS_MALFORMED', null],
  ['AbortError', new errors.AbortError(), 'ABORT_ERR', null],
];

describe('errors', () => {
  test.each(made)('%s has its name, code and phase', (name, error, code, phase) => {
    expect(error).toBeInstanceOf(Error);
    expect(error).toBeInstanceOf(errors.CloseNotifyError);
    expect(error.constructor.name).toBe(name);
    expect(error).toMatchObject({ name, code, phase, closure: null, hint: null });
    expect('cause' in error).toBe(false);
    expect(String(error)).toBe(`${name}: ${error.message}`);
  });

  test('every code has a class that carries it, and no class another', () => {
    type AnyError = new (message: string) => errors.CloseNotifyError;
    const classes = (Object.values(errors) as unknown as AnyError[]).filter(
      (one) => one.prototype instanceof errors.CloseNotifyError,
    );
    const carried = classes
      .filter((one) => one !== (errors.UsageError as unknown))
      .map((one) => new one('m').code);
    for (const [name, error] of made) if (name === 'UsageError') carried.push(error.code);
    expect([...new Set(carried)].sort()).toEqual(codes().sort());
    for (const [, , code] of made) expect(carried).toContain(code);
  });

  test('details: phase, closure, cause and hint', () => {
    const closure = closureOf(INITIAL);
    const cause = new Error('first');
    const error = new errors.TruncatedError('m', { phase: 'read', closure, cause, hint: 'h' });
    expect(error).toMatchObject({ phase: 'read', closure, cause, hint: 'h', message: 'm' });
    expect(new errors.ResolveError('m', { phase: 'connect' }).phase).toBe('connect');
  });

  test('AbortError is like that of Node: name, code, message, and the reason of the signal as cause', () => {
    const reason = new Error('why');
    expect(new errors.AbortError({ cause: reason })).toMatchObject({
      name: 'AbortError',
      code: 'ABORT_ERR',
      message: 'The operation was aborted',
      cause: reason,
    });
  });

  test('docs/errors.md has one entry for each code, and no other', () => {
    const page = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');
    const entries = [...page.matchAll(/^## `?((?:ERR_TLS_\w+)|ABORT_ERR)`?\s*$/gm)].map(
      ([, code]) => code,
    );
    expect(entries.sort()).toEqual(codes().sort());
  });
});
