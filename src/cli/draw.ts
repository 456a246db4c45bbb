/** `close-notify draw`: draws a transcript that was saved, or a capture that somebody made. */
import { readFileSync } from 'node:fs';
import type { Drawing } from '../drawing/drawing.ts';
import { harmless } from '../drawing/escape.ts';
import { drawLanes } from '../drawing/lanes.ts';
import { OptionError } from '../errors.ts';
import { Transcript } from '../transcript/transcript.ts';
import { type CaptureOptions, readCapture } from './capture.ts';
import { type Diagram, type DiagramOptions, destinationOf, writeDiagram } from './diagram.ts';
import { EXIT } from './exit.ts';
import { checkOutputs } from './files.ts';
import type { Terminal } from './terminal.ts';

/** Options as commander hands them over. */
export interface DrawOptions extends DiagramOptions, Partial<CaptureOptions> {}

/**
 * Draws one transcript, or two of the same connection side by side; or one connection of a capture.
 *
 * @throws {OptionError} for a file that is no transcript, or no capture.
 */
export function draw(
  file: string | undefined,
  peerFile: string | undefined,
  options: DrawOptions,
  terminal: Terminal,
): number {
  const { form: asked, file: output } = destinationOf(options);
  const form = asked ?? 'text';
  const { pcap, keylog, connection } = options;
  if ((file === undefined) === (pcap === undefined)) {
    throw new OptionError('draw takes either a transcript or --pcap');
  }
  if (pcap === undefined && (keylog !== undefined || connection !== undefined)) {
    throw new OptionError('--keylog and --connection go with --pcap');
  }
  checkOutputs({ '--output': output });
  if (pcap !== undefined) {
    const capture = readCapture({ pcap, keylog, connection });
    show(drawLanes(capture.left, capture.right, capture.options), form, output, terminal);
    // Standard output may be the drawing.
    if (form === 'text' || output !== undefined) {
      terminal.write('\n');
      for (const remark of capture.remarks) terminal.paragraph(harmless(remark));
    }
    return EXIT.ok;
  }
  const transcript = readTranscript(file as string);
  const peer = peerFile === undefined ? null : readTranscript(peerFile);
  const drawing = drawLanes(
    { name: transcript.local ?? 'us', transcript },
    peer === null
      ? (transcript.peer ?? 'the peer')
      : { name: peer.local ?? transcript.peer ?? 'the peer', transcript: peer },
  );
  show(drawing, form, output, terminal);
  return EXIT.ok;
}

/** Draws; as text with the story around it. */
function show(
  drawing: Drawing,
  form: Diagram,
  output: string | undefined,
  terminal: Terminal,
): void {
  writeDiagram(drawing, form, output, terminal);
  if (form !== 'text' || output !== undefined) return;
  const { headline, meaning, rule } = drawing.story;
  terminal.write('\n');
  // A name in it may be anybody's.
  terminal.paragraph(harmless(headline));
  terminal.paragraph(harmless(meaning));
  terminal.paragraph(`"${rule.quote}" (${rule.source})`);
}

function readTranscript(file: string): Transcript {
  try {
    return Transcript.fromJSON(JSON.parse(readFileSync(file, 'utf8')));
  } catch (cause) {
    throw new OptionError(`${file}: ${(cause as Error).message}`, { cause });
  }
}
