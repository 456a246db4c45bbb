/** Who uses a stream: its own methods, one Duplex, or web streams. One at a time in each direction. */
import type { Duplex } from 'node:stream';
import type { Closure } from '../closure/verdict.ts';
import { UsageError } from '../errors.ts';
import { type DuplexOptions, TlsDuplex } from './duplex.ts';
import type { Source } from './source.ts';
import { WebStreams } from './web.ts';

/** The faces of one stream, each made when it is first asked for and the same from then on. */
export class Faces {
  readonly #source: Source;
  readonly #transport: Duplex;
  readonly #closure: () => Closure;
  #duplex: TlsDuplex | null = null;
  #web: WebStreams | null = null;

  constructor(source: Source, transport: Duplex, closure: () => Closure) {
    this.#source = source;
    this.#transport = transport;
    this.#closure = closure;
  }

  /** @throws {UsageError | OptionError} as `stream.toDuplex()`. */
  toDuplex(options: DuplexOptions = {}): TlsDuplex {
    if (this.#duplex !== null) return this.#duplex;
    this.#refuse('read', this.#web?.reads === true ? 'readable' : null);
    this.#refuse('write', this.#web?.writes === true ? 'writable' : null);
    this.#refuseReading();
    this.#duplex = new TlsDuplex(this.#source, this.#transport, options);
    return this.#duplex;
  }

  /** @throws {UsageError} as `stream.readable`. */
  get readable(): ReadableStream<Uint8Array> {
    this.#refuse('read', this.#duplex === null ? null : 'toDuplex()');
    if (this.#web?.reads !== true) this.#refuseReading();
    this.#web ??= new WebStreams(this.#source);
    return this.#web.readable;
  }

  /** @throws {UsageError} as `stream.writable`. */
  get writable(): WritableStream<Uint8Array> {
    this.#refuse('write', this.#duplex === null ? null : 'toDuplex()');
    this.#web ??= new WebStreams(this.#source);
    return this.#web.writable;
  }

  /** Whether a face has taken reading: then what arrives is its, not `shutdown`'s to collect. */
  get reads(): boolean {
    return this.#duplex !== null || this.#web?.reads === true;
  }

  /** @throws {UsageError} `ERR_TLS_TAKEN` where a face has this direction, and the stream's own call may not. */
  refuseCall(phase: 'read' | 'write'): void {
    const taken = phase === 'read' ? this.#web?.reads : this.#web?.writes;
    const web = phase === 'read' ? 'readable' : 'writable';
    this.#refuse(phase, this.#duplex !== null ? 'toDuplex()' : taken === true ? web : null);
  }

  #refuse(phase: 'read' | 'write', by: string | null): void {
    if (by === null) return;
    const direction = phase === 'read' ? 'reading' : 'writing';
    throw new UsageError('ERR_TLS_TAKEN', `${direction} was taken by stream.${by}`, {
      phase,
      closure: this.#closure(),
      hint: `use what stream.${by} gave; shutdown, close and abort work on the stream all the same`,
    });
  }

  #refuseReading(): void {
    if (!this.#source.reading) return;
    throw new UsageError('ERR_TLS_READ_PENDING', 'a read is waiting', {
      phase: 'read',
      closure: this.#closure(),
      hint: 'await the read first, or cancel it: no bytes are lost by that',
    });
  }
}
