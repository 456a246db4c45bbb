/**
 * `close-notify probe`: connects, handshakes, sends nothing, shuts down, closes, and says how the
 * server ended the connection.
 */
import { DEFAULT_POLICY } from '../closure/policy.ts';
import { type CloseNotifyError, OptionError } from '../errors.ts';
import type { ConnectOptions } from '../stream/connect.ts';
import { environmentKeyLog, PcapngFile } from './capture.ts';
import { certificateOf, connectOptionsOf, readPem } from './connection.ts';
import { type Destination, destinationOf, writeDiagram } from './diagram.ts';
import { EXIT } from './exit.ts';
import {
  checkInputs,
  checkOutputs,
  checkStandardOutput,
  readFirstLine,
  STANDARD,
  writeText,
} from './files.ts';
import { readKey } from './key.ts';
import { explainError, type TargetLine, TargetLines } from './lines.ts';
import { Screen, Silent } from './probe-page.ts';
import type { ProbeOptions, ProbeReport } from './probe-report.ts';
import { Probe, Watch } from './probe-run.ts';
import { writeJson, writeJsonLine } from './report.ts';
import { type Target, targetText } from './target.ts';
import { forEachTarget, targetsOf } from './targets.ts';
import type { Terminal } from './terminal.ts';
import { certificateTrouble, explainBriefly } from './words.ts';

/**
 * Reads the files and checks the options, before anything is connected to.
 *
 * @returns what holds for every target.
 * @throws {OptionError}
 */
async function probeOptionsOf(options: ProbeOptions): Promise<ConnectOptions> {
  const { cert: certFile, key: keyFile, passFile } = options;
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new OptionError('--cert and --key go together');
  }
  if (passFile !== undefined && keyFile === undefined) {
    throw new OptionError('--pass-file goes with --key');
  }
  const connectOptions = await connectOptionsOf(options);
  if (certFile === undefined || keyFile === undefined) return connectOptions;
  const cert = await readPem('--cert', certFile, certificateOf);
  const passphrase =
    passFile === undefined ? undefined : await readFirstLine('--pass-file', passFile);
  const key = await readKey('--key', keyFile, passphrase);
  if (!cert.parsed.checkPrivateKey(key.parsed)) {
    throw new OptionError('the key of --key is not that of the certificate of --cert');
  }
  return {
    ...connectOptions,
    cert: cert.pem,
    // Without its passphrase, which nobody needs any more.
    key: key.parsed.export({ type: 'pkcs8', format: 'pem' }),
  };
}

/**
 * Runs the probe and prints it: one target as a page, several as a line each.
 *
 * @param targets as the command line has them.
 * @returns the exit code; of several targets the worst.
 */
export async function probe(
  targets: readonly string[],
  options: ProbeOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const { ca, cert, key, passFile } = options;
  checkInputs({
    ...{ '--targets': options.targets, '--ca': ca, '--cert': cert },
    ...{ '--key': key, '--pass-file': passFile },
  });
  const output = outputOf(options, terminal);
  const { list, lines } = await targetsOf(targets, options);
  if (lines) {
    const single = ['diagram', 'output', 'transcript', 'pcapng'] as const;
    const one = single.find((name) => options[name] !== undefined);
    if (one !== undefined) throw new OptionError(`--${one} is for one target, and not for a list`);
  }
  const connectOptions = await probeOptionsOf(options);
  return lines
    ? probeEach(list, connectOptions, options, terminal, signal)
    : probeOne(list[0] as Target, connectOptions, options, output, terminal, signal);
}

/** What is printed, and where drawings go. */
interface Output extends Destination {
  /** Whether standard output is for something else than the report. */
  readonly quiet: boolean;
}

/** Checks all that is to be written, before anything is connected to. @throws {OptionError} */
function outputOf(options: ProbeOptions, terminal: Terminal): Output {
  const { json = false, transcript, pcapng } = options;
  const destination = destinationOf(options);
  const { form, file } = destination;
  const drawn = form !== null && file === undefined;
  const claims = {
    '--json': json,
    [options.diagram === undefined ? '--output' : '--diagram']: drawn,
    '--transcript': transcript === STANDARD,
    '--pcapng': pcapng === STANDARD,
  };
  checkStandardOutput(claims);
  if (pcapng === STANDARD && terminal.live) {
    throw new OptionError(
      '--pcapng: a terminal shows no capture: name a file, or send it into a pipe',
    );
  }
  checkOutputs({ '--output': file, '--transcript': transcript, '--pcapng': pcapng });
  // A drawing as text stands in the report.
  const asText = drawn && form === 'text';
  return { ...destination, quiet: !asText && Object.values(claims).includes(true) };
}

/** One target, as a page. */
async function probeOne(
  target: Target,
  connectOptions: ConnectOptions,
  options: ProbeOptions,
  { form, file, quiet }: Output,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const keyLog = environmentKeyLog();
  const capture = options.pcapng === undefined ? null : new PcapngFile(options.pcapng, terminal);
  const screen = quiet ? new Silent() : new Screen(terminal, target);
  const watch = new Watch(targetText(target), keyLog, capture);
  const run = new Probe(target, connectOptions, options, screen, signal, watch);
  await run.run();
  const report = run.report();
  const drawing = run.drawing();
  // The report comes first: a file that cannot be written after all takes nothing from it.
  if (options.json) writeJson(terminal, report);
  else screen.conclude(report, drawing, options, signal);
  capture?.finish();
  if (options.transcript !== undefined) {
    const json = `${JSON.stringify(watch.transcript, null, 2)}\n`;
    writeText('--transcript', options.transcript, json, terminal);
  }
  if (form !== null && (file !== undefined || form !== 'text')) {
    writeDiagram(drawing, form, file, terminal);
  }
  return exitCodeOf(report, options, signal);
}

/** Several targets, a line each. */
async function probeEach(
  targets: readonly Target[],
  connectOptions: ConnectOptions,
  options: ProbeOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const keyLog = environmentKeyLog();
  const lines = options.json ? null : new TargetLines(terminal, targets);
  let worst: number = EXIT.ok;
  await forEachTarget(
    targets,
    async (target) => {
      const watch = new Watch(targetText(target), keyLog, null);
      const run = new Probe(target, connectOptions, options, new Silent(), signal, watch);
      await run.run();
      return run;
    },
    (target, run) => {
      const report = run.report();
      worst = Math.max(worst, exitCodeOf(report, options, signal));
      if (lines === null) writeJsonLine(terminal, report);
      else lines.print(target, lineOf(report, run.failure, options));
    },
  );
  return worst;
}

/** What the line of a target says. */
function lineOf(
  { tls, closure, certificate, issuers }: ProbeReport,
  failure: CloseNotifyError | null,
  { wait, timeout }: ProbeOptions,
): TargetLine {
  if (tls === null || closure === null) {
    const detail = failure === null ? 'unknown error' : explainError(failure);
    return { word: 'no TLS', tone: 'bad', protocol: null, detail };
  }
  const deadline = wait ? (timeout ?? DEFAULT_POLICY.deadlines.shutdown) : undefined;
  const remarks = [explainBriefly(closure, deadline)];
  if (certificate !== null && !tls.authorized) {
    remarks.push(`certificate: ${certificateTrouble(tls.authorizationError ?? 'unknown')}`);
  }
  if (issuers !== null) remarks.push('asks for a client certificate');
  return {
    word: closure.verdict,
    tone: closure.verdict === 'secure' ? 'good' : 'warn',
    protocol: tls.protocol,
    detail: remarks.join('; '),
  };
}

function exitCodeOf(
  { tls, closure, error }: ProbeReport,
  options: ProbeOptions,
  signal: AbortSignal,
) {
  if (signal.aborted) return EXIT.interrupted;
  if (tls === null || closure === null) {
    return error?.code === 'ERR_TLS_OPTION' ? EXIT.usage : EXIT.noHandshake;
  }
  if (closure.verdict === 'secure') return EXIT.ok;
  return closure.verdict === 'one-sided' && !options.wait ? EXIT.ok : EXIT.notSecure;
}
