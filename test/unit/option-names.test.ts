import { describe, expect, test } from 'vitest';
import { CONNECT_OPTIONS, CONTEXT_OPTIONS, checkOptionNames } from '../../src/option-names.ts';
import { CLIENT_OPTIONS } from '../../src/stream/options.ts';

describe('checkOptionNames', () => {
  const names = ['signal', 'deadline'];
  const check = (options: unknown, path?: string) => () => checkOptionNames(options, names, path);

  test('what is known, or undefined, passes', () => {
    expect(check({})).not.toThrow();
    expect(check({ signal: 1, deadline: null, colour: undefined })).not.toThrow();
  });

  test.each([
    [{ deadlines: 5 }, 'there is no option deadlines: did you mean deadline?'],
    [{ Signal: 5 }, 'there is no option Signal: did you mean signal?'],
    [{ singal: 5 }, 'there is no option singal: did you mean signal?'],
    [{ toString: 5 }, 'there is no option toString'],
    [{ constructor: 5 }, 'there is no option constructor'],
    [null, 'options must be an object'],
    ['signal', 'options must be an object'],
  ])('%j: %s', (options, message) => {
    expect(check(options)).toThrow(
      expect.objectContaining({ name: 'OptionError', code: 'ERR_TLS_OPTION', message }),
    );
  });

  test('where none is near, the hint names what there is; with the option that they are members of', () => {
    expect(check({ colour: 1 })).toThrow(
      expect.objectContaining({ hint: 'there is signal, deadline' }),
    );
    expect(check({ colour: 1 }, 'a.')).toThrow(
      expect.objectContaining({ hint: 'there is a.signal, a.deadline' }),
    );
    expect(check({ sgnal: 1 }, 'a.')).toThrow('there is no option a.sgnal: did you mean a.signal?');
    expect(check(7, 'a.')).toThrow('a must be an object');
  });
});

test('the lists of Node’s options and the table of connect are of the same names', () => {
  const listed = [...CONTEXT_OPTIONS, ...CONNECT_OPTIONS];
  expect(listed.filter((name) => !(name in CLIENT_OPTIONS))).toEqual([]);
  const taken = Object.entries(CLIENT_OPTIONS)
    .filter(([, place]) => place === 'tls' || place === 'transport')
    .map(([name]) => name);
  expect(taken.filter((name) => !listed.includes(name))).toEqual([]);
  expect(new Set(listed).size).toBe(listed.length);
});
