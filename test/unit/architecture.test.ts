/** The shape of the code: which file may import what, and where its tests are. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

const src = fileURLToPath(new URL('../../src', import.meta.url));
const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .map((name) => name.replaceAll('\\', '/'))
  .filter((name) => name.endsWith('.ts'));

interface Import {
  readonly file: string;
  readonly specifier: string;
  /** Nothing of it is left when types are erased. */
  readonly typeOnly: boolean;
}

/** Every form in which a module names another. */
function importsOf(file: string): Import[] {
  const text = readFileSync(join(src, file), 'utf8');
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const found: Import[] = [];
  const add = (node: ts.Expression | undefined, typeOnly: boolean) => {
    if (node !== undefined && ts.isStringLiteralLike(node)) {
      found.push({ file, specifier: node.text, typeOnly });
    } else if (node !== undefined) {
      throw new Error(`${file} computes what it imports: ${node.getText(source)}`);
    }
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      const clause = node.importClause;
      const named = clause?.namedBindings;
      const allTypes =
        clause !== undefined &&
        (clause.phaseModifier === ts.SyntaxKind.TypeKeyword ||
          (clause.name === undefined &&
            named !== undefined &&
            ts.isNamedImports(named) &&
            named.elements.length > 0 &&
            named.elements.every((one) => one.isTypeOnly)));
      add(node.moduleSpecifier, allTypes);
    } else if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined) {
      add(node.moduleSpecifier, node.isTypeOnly);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      add(node.argument.literal as ts.Expression, true);
    } else if (ts.isImportEqualsDeclaration(node)) {
      throw new Error(`${file}: import =`);
    } else if (ts.isCallExpression(node)) {
      const callee = node.expression;
      const loads =
        callee.kind === ts.SyntaxKind.ImportKeyword ||
        /^(require|createRequire|process\.getBuiltinModule)$/.test(callee.getText(source));
      // One file asks for the add-on, which may be missing; what it asks for is looked at like the rest.
      const asks = file === 'add-on.ts' && callee.getText(source) === 'createRequire';
      if (loads && !asks) add(node.arguments[0], false);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

const imports = files.flatMap(importsOf);
const folderOf = (file: string) => (file.includes('/') ? (file.split('/')[0] as string) : '');
const isNode = (specifier: string) => specifier.startsWith('node:');
const isLocal = (specifier: string) => specifier.startsWith('.');
const targetOf = ({ file, specifier }: Import) =>
  relative(src, join(src, dirname(file), specifier)).replaceAll('\\', '/');

/**
 * What the files of each folder of src/ may import from others, lower layers first: a folder names only such as
 * stand above it here, so no two folders can need each other.
 */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  closure: [],
  record: [],
  transcript: ['closure', 'record'],
  drawing: ['closure', 'record', 'transcript'],
  capture: ['closure', 'record', 'transcript'],
  transport: ['closure'],
  tap: ['closure', 'record', 'transport'],
  engine: ['closure', 'record', 'transport', 'tap'],
  strict: ['closure', 'record', 'transcript', 'transport', 'tap', 'engine'],
  stream: ['closure', 'record', 'transcript', 'transport', 'engine'],
  starttls: ['stream'],
  'client-cert': ['closure', 'record', 'transcript', 'transport', 'stream', 'starttls'],
  testing: ['closure', 'record', 'transport', 'stream'],
};
const FOLDERS = [...Object.keys(MAY_IMPORT), 'cli'];
/** What stands in no folder: errors, names of options, runtime, waits, the names of servers, who reads a socket as HTTP or as a stream. */
const EVERYBODYS: readonly string[] = [
  'add-on.ts',
  'call-site.ts',
  'errors.ts',
  'http-messages.ts',
  'openssl.ts',
  'option-names.ts',
  'runtime.ts',
  'server-name.ts',
  'unread.ts',
  'wait.ts',
];
/** The command line is on top. */
const mayImport = (from: string, to: string): boolean =>
  from === to || from === 'cli' || (MAY_IMPORT[from] ?? []).includes(to);

/**
 * Files that need each other, directly or through others: a circle an element. An import of nothing but types
 * counts as well: who wants to understand one of the files has to read the other.
 */
function circles(all: ReadonlyMap<string, readonly string[]>): string[][] {
  const found: string[][] = [];
  const order = new Map<string, number>();
  const path: string[] = [];
  // Tarjan's algorithm: a file from which the walk gets back to no earlier one closes what stands behind it.
  const walk = (file: string): number => {
    const mine = order.size;
    order.set(file, mine);
    path.push(file);
    let low = mine;
    for (const next of all.get(file) ?? []) {
      if (!order.has(next)) low = Math.min(low, walk(next));
      else if (path.includes(next)) low = Math.min(low, order.get(next) as number);
    }
    if (low === mine) {
      const members = path.splice(path.indexOf(file));
      if (members.length > 1 || (all.get(file) ?? []).includes(file)) found.push(members.sort());
    }
    return low;
  };
  for (const file of all.keys()) if (!order.has(file)) walk(file);
  return found;
}

const localImports = imports.filter(({ specifier }) => isLocal(specifier));
const byFile = new Map(
  files.map((file) => [file, localImports.filter((one) => one.file === file).map(targetOf)]),
);

describe('the shape of the code', () => {
  test('there is something to look at', () => {
    expect(files).toContain('engine/tapped.ts');
    expect(imports.length).toBeGreaterThan(50);
  });

  test('every folder of src/ has its layer', () => {
    expect([...new Set(files.map(folderOf))].filter((one) => one !== '').sort()).toEqual(
      [...FOLDERS].sort(),
    );
    for (const [folder, below] of Object.entries(MAY_IMPORT)) {
      const above = FOLDERS.slice(FOLDERS.indexOf(folder));
      expect(
        below.filter((one) => above.includes(one)),
        folder,
      ).toEqual([]);
    }
  });

  test('imports point one way', () => {
    const wrong = localImports.filter((one) => {
      const from = folderOf(one.file);
      const target = targetOf(one);
      const to = folderOf(target);
      if (from === '') return false;
      // The list of exports is for users, the command line among them.
      if (to === '')
        return !(EVERYBODYS.includes(target) || (target === 'index.ts' && from === 'cli'));
      return !mayImport(from, to);
    });
    expect(wrong.map((one) => `${one.file} -> ${targetOf(one)}`)).toEqual([]);
  });

  test('streams and their engine use no member of Node that is not documented', () => {
    const members =
      /\b_handle\b|\b_parent\b|_(?:readable|writable)State\b|\bsetSession\b|[\w)\]]\??\._\w+/g;
    const used = files
      // One file may: the way to a descriptor, without which the engine is fed.
      .filter((file) => /^(?:engine|tap|stream)\//.test(file) && file !== 'engine/descriptor.ts')
      .flatMap((file) => {
        const text = readFileSync(join(src, file), 'utf8');
        return [...text.matchAll(members)].map(([member]) => `${file}: ${member}`);
      });
    expect(used).toEqual([]);
  });

  test('no file needs one that needs it, types included', () => {
    expect(circles(byFile)).toEqual([]);
  });

  test('each file is read in one sitting: 450 lines of code at most, and 15 fields in a class', () => {
    const tooMuch: string[] = [];
    let mostFields = 0;
    for (const file of files) {
      const text = readFileSync(join(src, file), 'utf8');
      const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
      const lines = new Set<number>();
      const lineOf = (at: number) => source.getLineAndCharacterOfPosition(at).line;
      const visit = (node: ts.Node): void => {
        if (ts.isJSDoc(node)) return;
        const children = node.getChildren(source);
        if (children.length === 0 && node.getWidth(source) > 0) {
          const last = lineOf(node.getEnd());
          for (let line = lineOf(node.getStart(source)); line <= last; line++) lines.add(line);
        }
        if (ts.isClassLike(node)) {
          const fields = node.members.filter(ts.isPropertyDeclaration).length;
          mostFields = Math.max(mostFields, fields);
          if (fields > 15) tooMuch.push(`${file}: ${node.name?.text} has ${fields} fields`);
        }
        children.forEach(visit);
      };
      visit(source);
      if (lines.size > 450) tooMuch.push(`${file}: ${lines.size} lines`);
    }
    expect(tooMuch).toEqual([]);
    expect(mostFields).toBeGreaterThan(5);
  });

  test('a circle is found, through whatever it leads, and one only', () => {
    const all = new Map([
      ['a', ['b', 'e']],
      ['b', ['c']],
      ['c', ['d', 'b']],
      ['d', ['b']],
      ['e', ['d']],
      ['f', ['f']],
    ]);
    expect(circles(all)).toEqual([['b', 'c', 'd'], ['f']]);
  });

  test('test/unit/ mirrors src/: each of its tests is named after a file, or after one and a theme', () => {
    const unit = fileURLToPath(new URL('.', import.meta.url));
    const tests = readdirSync(unit, { recursive: true, encoding: 'utf8' })
      .map((name) => name.replaceAll('\\', '/'))
      .filter((name) => name.endsWith('.test.ts'));
    // These two are about all of the code, and about a document.
    const others = ['architecture.test.ts', 'threat-model.test.ts'];
    const tested = (name: string) =>
      files.some((file) => name === file || name.startsWith(`${file.slice(0, -'.ts'.length)}-`));
    const strays = tests.filter((name) => !tested(name.replace(/\.test\.ts$/, '.ts')));
    expect(strays.sort()).toEqual(others);
  });

  test('a local import names a file of src/, by its real name', () => {
    for (const one of imports) {
      if (isLocal(one.specifier)) {
        const target = targetOf(one);
        expect(files.includes(target) || target === '../package.json', JSON.stringify(one)).toBe(
          true,
        );
      }
    }
  });

  test('closure/ and record/ are pure: no node:*, but for the primitives that read records', () => {
    const pure = imports.filter(({ file }) => ['closure', 'record'].includes(folderOf(file)));
    const primitives = ({ file, specifier }: Import) =>
      specifier === 'node:crypto' && ['record/keys.ts', 'record/unprotect.ts'].includes(file);
    expect(pure.filter((one) => !isLocal(one.specifier) && !primitives(one))).toEqual([]);
    // The errors are pure, too: they need nothing but types.
    expect(imports.filter((one) => one.file === 'errors.ts' && !one.typeOnly)).toEqual([]);
  });

  test('closure/ and record/ use no clock, no timer and no promise', () => {
    for (const file of files) {
      if (!['closure', 'record'].includes(folderOf(file))) continue;
      const source = ts.createSourceFile(
        file,
        readFileSync(join(src, file), 'utf8'),
        ts.ScriptTarget.Latest,
        true,
      );
      const visit = (node: ts.Node): void => {
        if (ts.isIdentifier(node)) {
          expect(
            /^(Date|performance|setTimeout|setInterval|setImmediate|Promise|process|globalThis)$/.test(
              node.text,
            ),
            `${file}: ${node.text}`,
          ).toBe(false);
        }
        expect(node.kind === ts.SyntaxKind.AsyncKeyword, `${file}: async`).toBe(false);
        ts.forEachChild(node, visit);
      };
      visit(source);
    }
  });

  test('only the engine touches node:tls, with its contexts, and the drop-ins', () => {
    const touching = imports
      .filter(({ specifier, typeOnly }) => !typeOnly && /^(node:)?_?tls($|_|\/)/.test(specifier))
      .map(({ file }) => file);
    expect([...new Set(touching)].sort()).toEqual([
      'engine/context.ts',
      'engine/descriptor.ts',
      'engine/native-context.ts',
      'engine/native-side.ts',
      'engine/tapped.ts',
      'strict/intercept.ts',
      'strict/pass/handle.ts',
      'strict/pass/outgoing.ts',
      'strict/pass/passing.ts',
      'strict/register.ts',
      'strict/secure-socket.ts',
    ]);
  });

  test('errors.ts imports only types, and only from closure/', () => {
    const own = imports.filter(({ file }) => file === 'errors.ts');
    for (const one of own) {
      expect(one.typeOnly, one.specifier).toBe(true);
      expect(folderOf(targetOf(one))).toBe('closure');
    }
  });

  test('no runtime dependency in the core: only cli/, client-cert/ and starttls/ have any, of package.json, and one file looks for the optional add-on', () => {
    const { dependencies } = JSON.parse(
      readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
    ) as { dependencies: Record<string, string> };
    for (const { file, specifier } of imports) {
      if (isLocal(specifier) || isNode(specifier)) continue;
      if (specifier === 'close-notify-native' && file === 'add-on.ts') continue;
      const allowed = specifier === 'asn1js' ? ['client-cert', 'starttls'] : ['cli'];
      expect(allowed, `${file} imports ${specifier}`).toContain(folderOf(file));
      expect(Object.keys(dependencies)).toContain(specifier);
    }
  });

  test('index.ts holds exports only', () => {
    const source = ts.createSourceFile(
      'index.ts',
      readFileSync(join(src, 'index.ts'), 'utf8'),
      ts.ScriptTarget.Latest,
      true,
    );
    for (const statement of source.statements) {
      expect(
        ts.isExportDeclaration(statement) && statement.moduleSpecifier !== undefined,
        statement.getText(source),
      ).toBe(true);
    }
  });
});
