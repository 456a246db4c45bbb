#!/usr/bin/env node
/** The `close-notify` command. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { CloseNotifyError, OptionError } from '../errors.ts';
import { STARTTLS_PROTOCOLS } from '../starttls/starttls.ts';
import { demo } from './demo.ts';
import { DIAGRAMS } from './diagram.ts';
import { doctor } from './doctor.ts';
import { draw } from './draw.ts';
import { EXIT } from './exit.ts';
import { issuers } from './issuers.ts';
import { probe } from './probe.ts';
import { terminalOf } from './terminal.ts';

/** One argument of a kind that commander does not know. */
function argument<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError((error as Error).message);
    }
  };
}

/** The longest delay that a timer of Node can have. */
const LONGEST_TIMER = 2 ** 31 - 1;

const milliseconds = (text: string): number => {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > LONGEST_TIMER) {
    throw new TypeError(`must be a whole number from 1 to ${LONGEST_TIMER}`);
  }
  return value;
};

const names = (text: string): string[] => {
  const list = text.split(',');
  if (list.some((name) => name === '' || Buffer.byteLength(name) > 255)) {
    throw new TypeError('must be names with commas between, such as h2,http/1.1');
  }
  return list;
};

const connection = (text: string): number => {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new TypeError('must be a whole number from 1 on');
  return Number(text);
};

const path = (text: string): string => {
  if (!/^\/[\x21-\x7e]*$/.test(text)) throw new TypeError("must be a path, such as '/private'");
  return text;
};

const TARGET_HELP = "port 443, or the protocol's, by default; an IPv6 address in brackets";

/** Options of the commands that connect. */
function addConnectionOptions(command: Command): void {
  command
    .argument('[host[:port]...]', TARGET_HELP)
    .option('--targets <file>', 'the targets of this file, one a line (- is standard input)')
    .addOption(new Option('-4, --ipv4', 'IPv4 addresses only').conflicts('ipv6'))
    .addOption(new Option('-6, --ipv6', 'IPv6 addresses only'))
    .addOption(
      new Option('--starttls <protocol>', 'begin in plaintext, as this protocol does').choices(
        STARTTLS_PROTOCOLS,
      ),
    )
    .option('--timeout <ms>', 'the deadline of each phase', argument(milliseconds))
    .option('--servername <name>', 'the name to ask for (SNI), by default the host')
    .addOption(new Option('--tls <version>', 'this TLS version only').choices(['1.2', '1.3']))
    .option('--ca <file>', 'trust these authorities (PEM) instead of the usual ones')
    .option('--alpn <names>', 'offer these application protocols: h2,http/1.1', argument(names))
    .option('--no-color', 'no colours')
    .option('--ascii', 'draw with ASCII only');
}

/** Options of the commands that draw one connection. */
function addDiagramOptions(command: Command): void {
  command
    .addOption(new Option('--diagram <form>', 'draw it in this form').choices(DIAGRAMS))
    .option(
      '-o, --output <file>',
      'draw it into this file: .txt, .svg, .mmd or .html; - prints it',
    );
}

function version(): string {
  const file = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(file) as { version: string }).version;
}

/** The command line. `exit` is told the code. */
function program(exit: (code: number) => void): Command {
  const command = new Command('close-notify')
    .description('TLS that knows how a connection ended.')
    .version(version())
    .exitOverride()
    .showHelpAfterError('(close-notify --help says more)')
    .addHelpText(
      'after',
      `
Examples:
  $ close-notify probe example.org        how does this server end a connection?
  $ close-notify probe '[::1]:8443' --tls 1.2
  $ close-notify issuers example.org      whose certificates does it accept?
  $ close-notify demo                     all the ways to end one, drawn`,
    );

  const probing = command
    .command('probe')
    .summary('connect to a server, close, and say how it closed')
    .description(
      'Connects, handshakes, sends nothing, shuts TLS down, closes, and says how the server ended ' +
        'the connection. A certificate that does not verify is reported, and the probe goes on.',
    )
    .option('--json', 'print one JSON object a target and nothing else')
    .option('--no-wait', "send close_notify and do not wait for the server's")
    .option('--cert <file>', 'client certificate (PEM)')
    .option('--key <file>', 'its key (PEM)')
    .option('--pass-file <file>', 'its first line is the passphrase of the key')
    .option('--transcript <file>', 'save what happened, as JSON, for `close-notify draw`')
    .option('--pcapng <file>', 'capture it, with its secrets inside, for Wireshark')
    .addHelpText(
      'after',
      `
Exit codes:
  0  secure: close_notify both ways (with --no-wait: ours was sent)
  1  any other verdict: truncated, alert, timed-out, ...
  2  wrong usage, or a file that cannot be used
  3  no handshake: the name, the connection or TLS failed

Several targets, and those of a file, get a line each in their order, or with
--json an object a line. The exit code is the highest of theirs. In the file,
# begins a comment.

Examples:
  $ close-notify probe example.org
  $ close-notify probe localhost:8443 --ca ca.pem --tls 1.3
  $ close-notify probe mail.example.org --starttls smtp
  $ close-notify probe '[::1]:8443' --json | jq .closure.verdict
  $ close-notify probe example.org -o ending.html   a page to step through it
  $ close-notify probe example.org example.net -4   a line for each
  $ close-notify probe --targets hosts.txt --json | jq -r .closure.verdict
  $ close-notify probe example.org --pcapng - | wireshark -k -i -`,
    )
    .action(async (targets, options) => {
      const terminal = terminalOf(process.stdout, options);
      exit(await probe(targets, options, terminal, interruption()));
    });
  addConnectionOptions(probing);
  addDiagramOptions(probing);

  const drawing = command
    .command('draw')
    .summary('draw a connection that was saved')
    .description(
      'Draws a transcript that `close-notify probe --transcript` or JSON.stringify(stream.transcript) ' +
        'has saved; with the other as well, both sides. As text, unless a form or a file ' +
        'says otherwise.',
    )
    .argument('[file]', 'the transcript')
    .argument('[peer-file]', "the other party's transcript of the same connection")
    .option('--pcap <file>', 'draw this capture (pcap or pcapng) instead')
    .option('--keylog <file>', 'its secrets, where it brings none (SSLKEYLOGFILE)')
    .option('--connection <n>', 'which of its connections', argument(connection))
    .option('--no-color', 'no colours')
    .option('--ascii', 'draw with ASCII only')
    .addHelpText(
      'after',
      `
Examples:
  $ close-notify probe example.org --transcript ending.json
  $ close-notify draw ending.json
  $ close-notify draw ending.json -o ending.svg
  $ close-notify draw --pcap capture.pcapng --keylog keys.txt -o capture.html`,
    )
    .action((file, peerFile, options) => {
      exit(draw(file, peerFile, options, terminalOf(process.stdout, options)));
    });
  addDiagramOptions(drawing);

  const finding = command
    .command('issuers')
    .summary('list whose client certificates a server accepts, and judge yours')
    .description(
      'Connects without a client certificate and reads what the server asks for: whose certificates ' +
        'it accepts, for which kinds of keys, and whether it insists. Judges your own certificates ' +
        "against that. A server's certificate that does not verify is reported, and the search goes on.",
    )
    .option(
      '--identity <path>',
      'judge this one: PEM, DER, PKCS#12 or a folder; repeatable',
      (path: string, paths: string[] = []) => [...paths, path],
    )
    .option('--pass-file <file>', 'its first line is the passphrase of the identities')
    .option(
      '--http <path>',
      'request this path first: some servers ask only for some',
      argument(path),
    )
    .option('--json', 'print one JSON object a target and nothing else')
    .addHelpText(
      'after',
      `
Exit codes:
  0  the server asks for a certificate (with --identity: and would take one)
  1  it does not ask, or would take none of these
  2  wrong usage, or a file that cannot be used
  3  neither a handshake nor a request: the name, the connection or TLS failed

Several targets, and those of a file, get a line each in their order, or with
--json an object a line. The exit code is the highest of theirs. In the file,
# begins a comment.

Examples:
  $ close-notify issuers example.org
  $ close-notify issuers localhost --identity client.p12 --pass-file pass.txt
  $ close-notify issuers db.example.org --starttls postgres --identity ids/
  $ close-notify issuers example.org --tls 1.2 --http /private
  $ close-notify issuers --targets hosts.txt --json | jq -r '.issuers[].name'`,
    )
    .action(async (targets, options) => {
      const terminal = terminalOf(process.stdout, options);
      exit(await issuers(targets, options, terminal, interruption()));
    });
  addConnectionOptions(finding);

  command
    .command('demo')
    .summary('play and draw nine ways to end a connection')
    .description(
      "Shows why it matters how a connection ends: Node's fetch takes half a response for the whole.\n" +
        'Then plays nine endings over the loopback interface, and draws them. Needs no network.',
    )
    .option('--all', 'draw TLS 1.2 too, also where nothing differs')
    .option('--html <file>', 'make one page of all the drawings')
    .option('--no-color', 'no colours')
    .option('--ascii', 'draw with ASCII only')
    .action(async (options) => {
      exit(await demo(options, terminalOf(process.stdout, options)));
    });

  command
    .command('doctor')
    .summary('say what works in this process, and why not more')
    .description(
      'Says whether the optional add-on close-notify-native is loaded, and if not, why; and what the ' +
        'drop-ins rest on here.',
    )
    .option('--json', 'print one JSON object and nothing else')
    .option('--no-color', 'no colours')
    .option('--ascii', 'ASCII only')
    .action((options) => {
      exit(doctor(options, terminalOf(process.stdout, options), version()));
    });

  return command;
}

/** Aborts on SIGINT. The second SIGINT ends the process, as ever. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort(new Error('interrupted')));
  return controller.signal;
}

/** Where a person is watching, broken between words. */
const complain = (text: string): void =>
  terminalOf(process.stderr, { color: false, ascii: false }).paragraph(`error: ${text}`);

async function main(): Promise<void> {
  process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
    // `close-notify ... | head`: whoever read our output has gone, and knows that.
    if (code === 'EPIPE') process.exit(EXIT.brokenPipe);
    process.stderr.write(`error: standard output: ${message}\n`);
    process.exit(EXIT.usage);
  });
  // There is nowhere left to say so; the exit code still tells.
  process.stderr.on('error', () => {});
  try {
    await program((code) => {
      process.exitCode = code;
    }).parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help and version have been printed, or an error to stderr; commander's own code for that is 1.
      process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    } else if (error instanceof OptionError) {
      complain(error.message);
      process.exitCode = EXIT.usage;
    } else if (error instanceof CloseNotifyError) {
      complain(`${error.message} [${error.code}]`);
      process.exitCode = EXIT.notSecure;
    } else {
      throw error;
    }
  }
  // A lookup that nobody waits for any more cannot be stopped, and would hold the process.
  setTimeout(() => process.stdout.write('', () => process.exit()), 100).unref();
}

await main();
