/** The titles of the tests in a file, found in its syntax: a title in a comment is no test. */
import ts from 'typescript';

/** Characters of a title that have to be known from its source. */
const LEAST = 10;

/**
 * What each test and block of tests in a source is called. A part that is known only when it runs (a
 * template's `${...}`, the `%s` or `$name` of `test.each`) may be any text.
 *
 * @param source the test file's text.
 */
export function titlesOf(source: string): RegExp[] {
  const titles: RegExp[] = [];
  const add = (parts: readonly string[]) => {
    // A title that hardly says anything would be any test's.
    if (parts.join('').length >= LEAST) titles.push(pattern(parts));
  };
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && isTest(node.expression)) {
      const [first] = node.arguments;
      if (first !== undefined && ts.isStringLiteralLike(first)) {
        // `test.each(rows)(title, ...)` is called twice.
        const each = ts.isCallExpression(node.expression);
        add(each ? first.text.split(/%\w|\$\w+/) : [first.text]);
      } else if (first !== undefined && ts.isTemplateExpression(first)) {
        add([first.head.text, ...first.templateSpans.map(({ literal }) => literal.text)]);
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('test.ts', source, ts.ScriptTarget.Latest));
  return titles;
}

/** Whether this declares tests that run: `test`, `it`, `describe`, with what may hang on them. */
function isTest(called: ts.Expression): boolean {
  let root: ts.Expression = called;
  while (ts.isCallExpression(root) || ts.isPropertyAccessExpression(root)) {
    if (ts.isPropertyAccessExpression(root) && /^(skip|todo)$/.test(root.name.text)) return false;
    root = root.expression;
  }
  return ts.isIdentifier(root) && /^(test|it|describe)/.test(root.text);
}

/** These texts in this order, with anything between. */
function pattern(parts: readonly string[]): RegExp {
  const escaped = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${escaped.join('.*')}$`, 's');
}
