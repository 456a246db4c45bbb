/** The shape of the code: which file may import what. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

const src = fileURLToPath(new URL('../src', import.meta.url));
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
      if (loads) add(node.arguments[0], false);
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

/** Lower layers first. A folder imports from its own layer only itself, and from those below. */
const LAYERS: ReadonlyArray<readonly string[]> = [
  ['closure', 'record'],
  ['tap'],
  ['stream'],
  ['starttls'],
  ['strict', 'client-cert', 'transcript', 'testing'],
  ['cli'],
];
const layerOf = (folder: string) => LAYERS.findIndex((layer) => layer.includes(folder));

describe('the shape of the code', () => {
  test('there is something to look at', () => {
    expect(files).toContain('stream/engine.ts');
    expect(imports.length).toBeGreaterThan(50);
  });

  test('every folder of src/ has its layer', () => {
    for (const file of files) {
      const folder = folderOf(file);
      if (folder !== '') expect(layerOf(folder), folder).toBeGreaterThanOrEqual(0);
    }
  });

  test('imports point one way: closure, record <- tap <- stream <- strict, client-cert, transcript <- cli', () => {
    const wrong = imports
      .filter(({ specifier }) => isLocal(specifier))
      .filter((one) => {
        const from = folderOf(one.file);
        const target = targetOf(one);
        const to = folderOf(target);
        if (from === '' || from === to) return false;
        // The errors and the runtime are everybody's; the list of exports is for users, the command line
        // among them.
        if (to === '')
          return !(
            target === 'errors.ts' ||
            target === 'runtime.ts' ||
            (target === 'index.ts' && from === 'cli')
          );
        return layerOf(to) >= layerOf(from);
      });
    expect(wrong).toEqual([]);
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

  test('closure/ and record/ are pure: no node:*, but for the primitives that read records; errors only as types', () => {
    const pure = imports.filter(({ file }) => ['closure', 'record'].includes(folderOf(file)));
    const primitives = ({ file, specifier }: Import) =>
      specifier === 'node:crypto' && ['record/keys.ts', 'record/unprotect.ts'].includes(file);
    expect(pure.filter((one) => !isLocal(one.specifier) && !primitives(one))).toEqual([]);
    expect(pure.filter((one) => targetOf(one) === 'errors.ts' && !one.typeOnly)).toEqual([]);
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

  test('only the engine touches node:tls, with its contexts and what it lends its sockets; strict/register.ts, which replaces its connect; and what puts TLS on a pass', () => {
    const touching = imports
      .filter(({ specifier, typeOnly }) => !typeOnly && /^(node:)?_?tls($|_|\/)/.test(specifier))
      .map(({ file }) => file);
    expect([...new Set(touching)].sort()).toEqual([
      'stream/context.ts',
      'stream/engine.ts',
      'stream/socket-members.ts',
      'strict/pass.ts',
      'strict/passing.ts',
      'strict/register.ts',
    ]);
  });

  test('errors.ts imports only types, and only from closure/', () => {
    const own = imports.filter(({ file }) => file === 'errors.ts');
    for (const one of own) {
      expect(one.typeOnly, one.specifier).toBe(true);
      expect(folderOf(targetOf(one))).toBe('closure');
    }
  });

  test('no runtime dependency in the core: only cli/, client-cert/ and starttls/ have any, of package.json', () => {
    const { dependencies } = JSON.parse(
      readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
    ) as { dependencies: Record<string, string> };
    for (const { file, specifier } of imports) {
      if (isLocal(specifier) || isNode(specifier)) continue;
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
