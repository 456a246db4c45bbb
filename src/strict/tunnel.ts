/**
 * A tunnel through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6).
 *
 * Theory of operation. The request is one head, and so is each answer, so they are written and read here. Node's HTTP
 * client takes the first answer to CONNECT for the last, also where it is an interim one (1xx), and where the proxy
 * speaks something else it has nothing to say but that it could not parse it.
 *
 * What the proxy says is read until the head of its final answer is complete. Interim answers are skipped (RFC 9110
 * section 15.2), but 101, which nobody asked for. After a 2xx the connection is a tunnel; what stands behind the head
 * is the first that came through it, and goes back into the socket. Everything else is a `ConnectError` with what the
 * proxy said: its status line, or the first of the bytes that are no HTTP.
 */
import { Buffer } from 'node:buffer';
import http from 'node:http';
import net from 'node:net';
import { ConnectError, OptionError } from '../errors.ts';
import { plainReason } from '../openssl.ts';
import { checkOptionNames } from '../option-names.ts';
import { process } from '../runtime.ts';
import { hostAndPort, serverName } from '../server-name.ts';
import { type SecureSocketOptions, secureSocket } from './secure-socket.ts';

/** An HTTP proxy that tunnels (CONNECT). */
export interface ProxyOptions {
  /** Its address, such as `http://user:password@proxy.example:3128`; `https:` for TLS to the proxy. */
  readonly uri: string | URL;
  /** Headers of the CONNECT request. `proxy-authorization` is made from the address by default. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** TLS options for an `https:` proxy. */
  readonly tls?: SecureSocketOptions | undefined;
}

/** A proxy whose options have been looked at. */
export interface Proxy {
  readonly host: string;
  /** What SNI asks for; null for an IP address. */
  readonly servername: string | null;
  readonly port: number;
  /** TLS options for the way to the proxy; null for one in the clear. */
  readonly tls: SecureSocketOptions | null;
  /** Headers of the request, by lower-case name. */
  readonly headers: Readonly<Record<string, string>>;
}

/** @throws {OptionError} that names the option, without the password that may stand in it. */
export function checkProxy(options: ProxyOptions): Proxy {
  if (typeof options !== 'object' || options === null) {
    throw new OptionError('proxy must be an object: { uri, headers, tls }');
  }
  checkOptionNames(options, ['uri', 'headers', 'tls'], 'proxy.');
  const { uri, headers = {}, tls = {} } = options;
  if (!URL.canParse(String(uri))) throw new OptionError('proxy.uri must be a URL');
  const url = new URL(uri);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new OptionError('proxy.uri must begin with http: or https:');
  }
  if (url.port === '0') throw new OptionError('proxy.uri must have a port from 1 to 65535');
  for (const [name, value] of Object.entries({ headers, tls })) {
    if (typeof value !== 'object' || value === null) {
      throw new OptionError(`proxy.${name} must be an object`);
    }
  }
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isSecure = url.protocol === 'https:';
  return {
    host,
    servername: net.isIP(host) === 0 ? serverName(host, 'proxy.uri') : null,
    port: Number(url.port) || (isSecure ? 443 : 80),
    tls: isSecure ? tls : null,
    headers: { ...authorizationOf(url), ...checkHeaders(headers) },
  };
}

/** RFC 7617: the credentials of the address, if there are any. */
function authorizationOf({ username, password }: URL): Record<string, string> {
  if (username === '') return {};
  let credentials: string;
  try {
    credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  } catch {
    throw new OptionError('proxy.uri has credentials that are not percent-encoded');
  }
  return { 'proxy-authorization': `Basic ${Buffer.from(credentials).toString('base64')}` };
}

function checkHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const checked: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    try {
      http.validateHeaderName(name);
      http.validateHeaderValue(name, value);
    } catch (cause) {
      throw new OptionError(`proxy.headers: ${(cause as Error).message}`, { cause });
    }
    checked[name.toLowerCase()] = value;
  }
  return checked;
}

/** The heads of all answers together may have so many bytes, as with Node's HTTP client. */
const MAX_HEAD = 16_384;

/** So many characters of what a proxy said go into a message. */
const MAX_QUOTED = 120;

/** Whoever waits for the tunnel; one of the two is told, once. */
export interface TunnelEvents {
  /** The tunnel is open, and the socket has no listeners of ours. */
  onOpen(socket: net.Socket): void;
  onError(error: Error): void;
}

/** One tunnel that is being opened. */
export class Tunnel {
  readonly #proxy: Proxy;
  readonly #authority: string;
  readonly #events: TunnelEvents;
  readonly #socket: net.Socket;
  /**
   * 'connecting' to the proxy, TLS included; 'asked' for the tunnel; 'open', but nobody was told yet; 'over': somebody
   * was told, or gave up.
   */
  #state: 'connecting' | 'asked' | 'open' | 'over' = 'connecting';
  /** What the proxy has said, but for interim answers. */
  #said: Buffer = Buffer.alloc(0);
  /** The last interim answer, quoted; null where there was none. */
  #interim: string | null = null;
  /** Bytes of interim answers. */
  #skipped = 0;

  /**
   * @param authority where the tunnel leads to: `host:port`.
   * @throws {OptionError}, and what `tls.connect` throws for options it does not take.
   */
  constructor(proxy: Proxy, authority: string, events: TunnelEvents) {
    if (/[^\x21-\x7e]/.test(authority)) {
      throw new OptionError(`${JSON.stringify(authority)} cannot be asked of a proxy`);
    }
    this.#proxy = proxy;
    this.#authority = authority;
    this.#events = events;
    const { host, servername, port, tls } = proxy;
    this.#socket =
      tls === null
        ? net.connect({ host, port })
        : secureSocket({
            host,
            ...(servername === null ? {} : { servername }),
            ...tls,
            port,
          });
    this.#socket
      .setNoDelay(true)
      .once(tls === null ? 'connect' : 'secureConnect', this.#onConnect)
      .on('error', this.#onError)
      .on('readable', this.#onReadable)
      .once('end', this.#onEnd)
      .once('close', this.#onEnd);
  }

  /** What is waited for, for the message of a deadline. */
  get waitsFor(): string {
    if (this.#state === 'connecting') return `there is no connection to ${this.#name} yet`;
    return `${this.#name} has not ${this.#answered('answered', 'completed its answer')}`;
  }

  /** Gives up, and tells nobody. */
  destroy(): void {
    this.#state = 'over';
    this.#socket.destroy();
  }

  get #name(): string {
    const { host, port } = this.#proxy;
    return `the proxy ${hostAndPort(host, port)}`;
  }

  /** @returns the first words where it has said nothing of its final answer, else the second; and what it has said. */
  #answered(nothing: string, part: string): string {
    if (this.#said.length > 0) return `${part}, ${quoted(this.#said)}`;
    return this.#interim === null ? nothing : `${nothing} behind ${this.#interim}`;
  }

  readonly #onConnect = () => {
    if (this.#state !== 'connecting') return;
    this.#state = 'asked';
    const headers = { host: this.#authority, ...this.#proxy.headers };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    this.#socket.write(`CONNECT ${this.#authority} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1');
  };

  readonly #onReadable = () => {
    while (this.#state === 'asked') {
      const chunk = this.#socket.read() as Buffer | null;
      if (chunk === null) return;
      this.#said = Buffer.concat([this.#said, chunk]);
      this.#readHeads();
    }
  };

  #readHeads(): void {
    while (this.#state === 'asked' && this.#said.length > 0) {
      const text = this.#said.toString('latin1');
      if (!mayBeHttp(text)) {
        this.#fail(`${this.#name} does not speak HTTP/1: it said ${quoted(this.#said)}`, {
          hint: speaksTls(this.#said)
            ? 'it speaks TLS: proxy.uri must begin with https:'
            : 'proxy.uri must be the address of an HTTP proxy',
        });
        return;
      }
      const end = /\r?\n\r?\n/.exec(text);
      const length = end === null ? text.length : end.index + end[0].length;
      if (this.#skipped + length > MAX_HEAD) {
        this.#fail(
          `${this.#name} answered with more than ${MAX_HEAD} bytes of headers: ${quoted(this.#said)}`,
        );
        return;
      }
      if (end === null) return;
      const head = text.slice(0, end.index);
      const status = Number(STATUS.exec(head)?.[1]);
      // Nothing is asked for that 101 could switch to.
      if (status >= 100 && status < 200 && status !== 101) {
        this.#interim = quoted(this.#said);
        this.#said = this.#said.subarray(length);
        this.#skipped += length;
        continue;
      }
      if (status >= 200 && status < 300) this.#open(this.#said.subarray(length));
      else this.#refuse(status, head);
    }
  }

  #open(first: Buffer): void {
    this.#state = 'open';
    const socket = this.#socket;
    socket.off('readable', this.#onReadable).off('end', this.#onEnd);
    if (first.length > 0) socket.unshift(first);
    // A socket that has lost its last listener for 'readable' can flow again, but finds that out a tick later.
    process.nextTick(() => {
      if (this.#state === 'over') return;
      this.#state = 'over';
      socket.off('close', this.#onEnd).off('error', this.#onError);
      this.#events.onOpen(socket);
    });
  }

  #refuse(status: number, head: string): void {
    const answer = quoted(Buffer.from(head, 'latin1'));
    const schemes = status === 407 ? schemesOf(head) : [];
    const asks = schemes.length === 0 ? '' : `, and asks for ${schemes.join(' or ')}`;
    this.#fail(`${this.#name} opened no tunnel to ${this.#authority}: it said ${answer}${asks}`, {
      hint: status === 407 ? this.#hintOf(schemes) : 'ask who runs the proxy',
    });
  }

  #hintOf(schemes: readonly string[]): string {
    const given = 'proxy-authorization' in this.#proxy.headers;
    if (given) return 'the proxy did not take these credentials';
    return schemes.length === 0 || schemes.some((scheme) => /^basic$/i.test(scheme))
      ? 'the proxy asks for credentials: put them into proxy.uri, http://user:password@host'
      : 'the proxy asks for credentials: put them into proxy.headers, as proxy-authorization';
  }

  readonly #onEnd = () => {
    if (this.#state === 'connecting') this.#fail(`${this.#name} hung up`);
    else
      this.#fail(
        `${this.#name} hung up ${this.#answered('and said nothing', 'within its answer')}`,
      );
  };

  readonly #onError = (cause: Error) => {
    const why = whyOf(cause);
    if (this.#state === 'connecting') {
      this.#fail(`no connection to ${this.#name}: ${why}`, { cause });
    } else {
      const when = this.#answered('before it had answered', 'within its answer');
      this.#fail(`the connection to ${this.#name} failed ${when}: ${why}`, { cause });
    }
  };

  #fail(message: string, details: { cause?: Error; hint?: string } = {}): void {
    if (this.#state === 'over') return;
    this.destroy();
    this.#events.onError(
      new ConnectError(message, {
        hint: 'check proxy.uri, and ask who runs the proxy',
        ...details,
      }),
    );
  }
}

/** Why a connection failed, in one line. */
function whyOf(error: Error): string {
  // An AggregateError (several addresses, all failed) has no message of its own.
  if (error instanceof AggregateError) return error.errors.map(whyOf).join('; ');
  return plainReason(error.message);
}

/** RFC 9112 section 4: the status line. */
const STATUS = /^HTTP\/1\.\d (\d{3})(?: |\r?\n|$)/;

/** Whether it begins as a status line does, or is too short to say. */
function mayBeHttp(text: string): boolean {
  const line = /^[^\n]*(?=\n)/.exec(text)?.[0];
  if (line !== undefined) return STATUS.test(line.replace(/\r$/, ''));
  const shape = 'HTTP/1.d ddd';
  return [...text.slice(0, shape.length)].every((character, i) =>
    shape[i] === 'd' ? /\d/.test(character) : character === shape[i],
  );
}

/** A TLS record: of an alert or the handshake, and version 3. */
const speaksTls = (said: Buffer): boolean =>
  (said[0] === 0x15 || said[0] === 0x16) && (said.length === 1 || said[1] === 0x03);

/** RFC 9110 section 11.6.1: the schemes of all challenges, such as `Negotiate, Basic realm="x"`. */
function schemesOf(head: string): string[] {
  const found = new Set<string>();
  for (const line of head.split(/\r?\n/)) {
    const value = /^proxy-authenticate[ \t]*:(.*)$/i.exec(line)?.[1];
    if (value === undefined) continue;
    // Without what is quoted, a comma stands between challenges or between their parameters; a parameter has a '='.
    for (const part of value.replace(/"(?:\\.|[^"\\])*"/g, '""').split(',')) {
      const scheme = /^[ \t]*([!#$%&'*+.^_`|~\w-]+)(?:[ \t]+(?![ \t=])|[ \t]*$)/.exec(part)?.[1];
      if (scheme !== undefined) found.add(scheme.slice(0, 30));
    }
  }
  return [...found].slice(0, 5);
}

/** The first line, for a message: in quotes and without control characters, or as hexadecimal bytes if it is no text. */
function quoted(said: Buffer): string {
  const [line = ''] = said.toString('latin1').split(/\r?\n/, 1);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  if (!mayBeHttp(line) && /[\0-\x08\x0e-\x1f\x7f]/.test(line.slice(0, 16))) {
    return `bytes ${said.toString('hex', 0, 16).replace(/..(?=.)/g, '$& ')}`;
  }
  const text = line.replace(/[^\x20-\x7e]/g, '?');
  return text.length > MAX_QUOTED ? `'${text.slice(0, MAX_QUOTED)}...'` : `'${text}'`;
}
