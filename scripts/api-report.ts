/**
 * Writes etc/api-report.md: all that a user of the two packages can import, as one text, so that a change of it
 * shows in review.
 *
 * `npm run api:report` builds, and writes the report. `npm run check:api` compares the report with the last build, and
 * fails where they differ. API Extractor reads the types that the build made, one entry at a time. Its own files are not
 * kept as they are, for three reasons. One file is easier to review than one for each entry. API Extractor marks members
 * without a comment, which TypeDoc checks already. And it does not say whether a class can be imported or is only a type.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Extractor, ExtractorConfig, ExtractorLogLevel } from '@microsoft/api-extractor';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const REPORT = 'etc/api-report.md';
/** The name that API Extractor demands, for the variant that leaves out what is `@internal`. */
const NAME = 'entry';

/** One entry of a package's exports. */
interface Entry {
  /** As a program imports it. */
  readonly name: string;
  /** The folder of its package. */
  readonly folder: string;
  /** Its types and its code. */
  readonly types: string;
  readonly code: string;
}

/** The entries of a package that have types; a schema and `package.json` are files that show for themselves. */
function entriesOf(folder: string): Entry[] {
  const { name, exports } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  type Target = string | { readonly types: string; readonly default: string };
  return Object.entries<Target>(exports).flatMap(([path, target]) =>
    typeof target === 'string'
      ? []
      : [
          {
            name: path.replace(/^\./, name),
            folder,
            types: join(folder, target.types),
            code: join(folder, target.default),
          },
        ],
  );
}

/** The declarations of an entry, sorted by API Extractor, as it writes them. */
function extract({ name, folder, types }: Entry): string {
  if (!existsSync(types)) throw new Error(`${types} is not there: npm run build makes it`);
  const out = mkdtempSync(join(tmpdir(), 'api-report-'));
  try {
    const config = ExtractorConfig.prepare({
      configObject: {
        projectFolder: folder,
        mainEntryPointFilePath: types,
        newlineKind: 'lf',
        compiler: {
          overrideTsconfig: {
            compilerOptions: {
              target: 'es2023',
              lib: ['es2023', 'esnext.disposable'],
              module: 'nodenext',
              types: ['node'],
              strict: true,
              skipLibCheck: true,
            },
            files: [types],
          },
        },
        apiReport: {
          enabled: true,
          reportVariants: ['public'],
          reportFileName: NAME,
          reportFolder: out,
          reportTempFolder: join(out, 'temp'),
        },
        docModel: { enabled: false },
        dtsRollup: { enabled: false },
        tsdocMetadata: { enabled: false },
        messages: {
          compilerMessageReporting: { default: { logLevel: ExtractorLogLevel.Error } },
          extractorMessageReporting: {
            default: { logLevel: ExtractorLogLevel.None },
            'ae-forgotten-export': { logLevel: ExtractorLogLevel.None, addToApiReportFile: true },
          },
          tsdocMessageReporting: { default: { logLevel: ExtractorLogLevel.None } },
        },
      },
      configObjectFullPath: undefined,
      packageJsonFullPath: join(folder, 'package.json'),
    });
    const errors: string[] = [];
    Extractor.invoke(config, {
      // The report is new each time, which is no error here.
      localBuild: true,
      messageCallback(message) {
        if (message.logLevel === ExtractorLogLevel.Error) errors.push(message.text);
        message.handled = true;
      },
    });
    if (errors.length > 0) throw new Error(`${name}: ${errors.join('\n')}`);
    const text = readFileSync(join(out, `${NAME}.public.api.md`), 'utf8');
    const code = /^```ts\n(.*)^```$/ms.exec(text)?.[1];
    if (code === undefined) throw new Error(`${name}: API Extractor wrote no declarations`);
    return code;
  } finally {
    rmSync(out, { recursive: true });
  }
}

/** The names of types that a declaration in the report needs, and its entry does not export. */
const NEEDED = /^ *\/\/ Warning: \(ae-forgotten-export\) The symbol "(\w+)"/gm;
/** A declaration that the entry exports. */
const EXPORTED =
  /^export (?:abstract )?(?:class|const|enum|function|interface|let|type|var) (\w+)/gm;

const namesIn = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].map(([, name]) => name as string);

/** Without what API Extractor has to say about the declarations, and the release tag that all of them have. */
const bare = (code: string): string =>
  code
    .replace(/^\/\/ Warnings were encountered during analysis:\n.*?\n(?:\/\/.*\n)+/ms, '')
    .replace(
      /^ *\/\/ (?:Warning: .*|\(undocumented\)|@public|\(No @packageDocumentation .*)?$\n/gm,
      '',
    )
    .replace(/^ *\/\/\n/gm, '')
    .replace(/\n{3,}/g, '\n\n')
    .trim();

/** The whole report. */
async function report(): Promise<string> {
  const found = [ROOT, join(ROOT, 'native')].flatMap(entriesOf);
  const chapters: string[] = [];
  const exported = new Set<string>();
  const needed = new Map<string, string>();
  for (const entry of found) {
    const code = extract(entry);
    for (const name of namesIn(code, EXPORTED)) exported.add(name);
    for (const name of namesIn(code, NEEDED)) needed.set(name, entry.name);
    // A CommonJS module has itself as 'default', and as 'module.exports' in some versions of Node.
    const values = Object.keys(await import(pathToFileURL(entry.code).href))
      .filter((name) => name !== 'default' && name !== 'module.exports')
      .sort();
    chapters.push(
      `## ${entry.name}\n\nAt run time: ${values.map((name) => `\`${name}\``).join(', ')}.\n\n\`\`\`ts\n${bare(code)}\n\`\`\`\n`,
    );
  }
  const missing = [...needed].filter(([name]) => !exported.has(name));
  if (missing.length > 0) {
    const list = missing.map(([name, entry]) => `${name} (in ${entry})`).join(', ');
    throw new Error(`part of the public face, and exported by no entry: ${list}`);
  }
  return `<!-- Made by scripts/api-report.ts. Do not edit: \`npm run api:report\` writes it again. -->

# The public face

What a program can import, entry by entry. A line that goes from here, or changes, can break a program: CHANGELOG.md and
docs/upgrading.md then say what to do. 'At run time' names what exists there; all else exists for types alone. What it
all means is in the sources' comments, which \`npm run check:api\` writes to \`api/\`.

${chapters.join('\n')}`;
}

const wanted = await report();
const file = join(ROOT, REPORT);
if (process.argv.includes('--write')) {
  writeFileSync(file, wanted);
} else if (!existsSync(file) || readFileSync(file, 'utf8') !== wanted) {
  console.error(`${REPORT} does not tell what the build exports: npm run api:report writes it`);
  process.exitCode = 1;
}
