/** Servers that say what a test tells them to, up to the point where TLS begins. */
import { once } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import type { StartTlsProtocol } from '../../src/starttls/starttls.ts';
import type { Scope } from './core-scope.ts';

/** What the server says, or what it waits to hear: the client must say this and nothing else. */
export type Step = string | Uint8Array | RegExp;

/** A protocol as a well-behaved server speaks it, and ways not to. */
export interface Script {
  /** Up to the go-ahead. */
  readonly success: readonly Step[];
  /** The same in more lines, or in other words that mean the same. */
  readonly alsoSuccess: Readonly<Record<string, readonly Step[]>>;
  /** How servers say no, and what the error then says. */
  readonly refusals: Readonly<Record<string, readonly [steps: readonly Step[], message: RegExp]>>;
  /** Answers too long for what they are; the server goes no further. */
  readonly tooLong: Readonly<Record<string, readonly Step[]>>;
}

/** These bytes, as `Ears` look at them. */
const exactly = (hex: string) =>
  new RegExp(`^${hex.replace(/\s/g, '').replace(/../g, (byte) => `\\x${byte}`)}`);
const bytes = (hex: string) => Buffer.from(hex.replace(/\s/g, ''), 'hex');

// ---- LDAP: tag, length, content

const tlv = (tag: number, ...content: Uint8Array[]): Buffer => {
  const body = Buffer.concat(content);
  const length = body.length < 0x80 ? [body.length] : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
};

/** An LDAPMessage with an ExtendedResponse. */
export function extendedResponse(
  options: { id?: number; code?: number; words?: string; name?: string; operation?: number } = {},
): Buffer {
  const { id = 1, code = 0, words = '', name, operation = 0x78 } = options;
  return tlv(
    0x30,
    tlv(0x02, Buffer.from([id])),
    tlv(
      operation,
      tlv(0x0a, Buffer.from([code])),
      tlv(0x04),
      tlv(0x04, Buffer.from(words)),
      ...(name === undefined ? [] : [tlv(0x8a, Buffer.from(name))]),
    ),
  );
}

/** RFC 4511 section 4.14.1, in BER by hand: message 1, [APPLICATION 23], [0] the OID. */
const LDAP_REQUEST = exactly(
  `301d 020101 7718 8016 ${Buffer.from('1.3.6.1.4.1.1466.20037').toString('hex')}`,
);

// ---- MySQL

const packet = (number: number, body: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([body.length & 0xff, body.length >> 8, 0, number]), body]);

/** A handshake of version 10 (or another) with these capabilities in the low half. */
export function mysqlHandshake(capabilities: number, version = 10): Buffer {
  const low = Buffer.alloc(2);
  low.writeUInt16LE(capabilities);
  return packet(
    0,
    Buffer.concat([
      Buffer.from([version]),
      Buffer.from('8.0.99-scripted\0'),
      bytes('2a000000 6162636465666768 00'),
      low,
      bytes('21 0200 ffdf 15 00000000000000000000'),
      Buffer.from('ijklmnopqrst\0caching_sha2_password\0'),
    ]),
  );
}

const CLIENT_SSL = 0x0800;
/** 32 bytes, number 1; CLIENT_PROTOCOL_41 and CLIENT_SSL, a largest size, utf8, zeros. */
const MYSQL_REQUEST = exactly(`200000 01 018a0000 00000001 21 ${'00'.repeat(23)}`);

// ---- XMPP

const STREAM =
  "<?xml version='1.0'?><stream:stream from='localhost' id='1' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const FEATURES =
  "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
const TLS_NAMESPACE = 'urn:ietf:params:xml:ns:xmpp-tls';
const PROCEED = `<proceed xmlns='${TLS_NAMESPACE}'/>`;
const XMPP_HELLO =
  /^<\?xml version='1\.0'\?><stream:stream to='localhost' version='1\.0' xmlns='jabber:client' xmlns:stream='http:\/\/etherx\.jabber\.org\/streams'>/;
const XMPP_STARTTLS = /^<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'\/>/;

const long = (text: string) => text.padEnd(9_000, 'x');
const EHLO = /^EHLO (\[127\.0\.0\.1\]|localhost)\r\n/;
const STARTTLS = /^STARTTLS\r\n/;
const AUTH_TLS = /^AUTH TLS\r\n/;
const A1_STARTTLS = /^a1 STARTTLS\r\n/;
const STLS = /^STLS\r\n/;
const SSL_REQUEST = exactly('00000008 04d2162f');
const POP3_OK = '+OK ready\r\n';

/** The scripts of all protocols. */
export const SCRIPTS: Readonly<Record<StartTlsProtocol, Script>> = {
  smtp: {
    success: ['220 mx ESMTP\r\n', EHLO, '250-mx\r\n250 STARTTLS\r\n', STARTTLS, '220 Ready\r\n'],
    alsoSuccess: {
      'several lines everywhere': [
        '220-mx\r\n220-no spam\r\n220 please\r\n',
        EHLO,
        '250-mx\r\n250-SIZE 1000\r\n250-starttls\r\n250-8BITMIME\r\n250 HELP\r\n',
        STARTTLS,
        '220-wait\r\n220 Ready\r\n',
      ],
      'codes without words, lines without CR': [
        '220\n',
        EHLO,
        '250-\n250 STARTTLS\n',
        STARTTLS,
        '220\n',
      ],
    },
    refusals: {
      'no service': [['554 go away\r\n'], /refused the connection: '554 go away'/],
      'no EHLO': [['220 mx\r\n', EHLO, '502 what?\r\n'], /refused EHLO: '502 what\?'/],
      'no offer': [
        ['220 mx\r\n', EHLO, '250-mx\r\n250-SIZE 1\r\n250 HELP\r\n'],
        /does not offer STARTTLS, only 'SIZE HELP'/,
      ],
      'no offer at all': [['220 mx\r\n', EHLO, '250 STARTTLS\r\n'], /does not offer STARTTLS$/],
      'not available': [
        ['220 mx\r\n', EHLO, '250-mx\r\n250 STARTTLS\r\n', STARTTLS, '454 not \x1b[2Jnow\r\n'],
        /refused STARTTLS: '454 not \?\[2Jnow'/,
      ],
      'another code within a reply': [
        ['220-mx\r\n250 mx\r\n'],
        /sent no SMTP greeting, but '250 mx'/,
      ],
      'a line without code within a reply': [['220-mx\r\nmx\r\n'], /but 'mx'/],
    },
    tooLong: {
      'a line': [long('220 ')],
      'a reply': ['220-mx\r\n'.repeat(9_000)],
    },
  },
  imap: {
    success: ['* OK ready\r\n', A1_STARTTLS, 'a1 OK Begin TLS\r\n'],
    alsoSuccess: {
      'untagged responses in between': [
        '* OK [CAPABILITY IMAP4rev2 STARTTLS]\r\n* OK still here\r\n',
        A1_STARTTLS,
        '* CAPABILITY IMAP4rev2\r\n* OK soon\r\na1 ok\r\n',
      ],
    },
    refusals: {
      'BYE as greeting': [['* BYE full\r\n'], /refused the connection: '\* BYE full'/],
      'authenticated already': [['* PREAUTH hi\r\n'], /refused the connection: '\* PREAUTH hi'/],
      NO: [['* OK\r\n', A1_STARTTLS, 'a1 NO never\r\n'], /refused STARTTLS: 'a1 NO never'/],
      BAD: [['* OK\r\n', A1_STARTTLS, 'a1 BAD what\r\n'], /refused STARTTLS: 'a1 BAD what'/],
      BYE: [['* OK\r\n', A1_STARTTLS, '* BYE\r\n'], /refused STARTTLS: '\* BYE'/],
      'another tag': [['* OK\r\n', A1_STARTTLS, 'a2 OK\r\n'], /no answer to STARTTLS, but 'a2 OK'/],
      'an answer ahead of the question': [
        ['* OK\r\na1 OK\r\n'],
        /sent no IMAP response, but 'a1 OK'/,
      ],
    },
    tooLong: {
      'a line': [long('* OK ')],
      'many lines': ['* OK\r\n', A1_STARTTLS, '* OK wait\r\n'.repeat(7_000)],
    },
  },
  pop3: {
    success: [POP3_OK, STLS, '+OK Begin TLS\r\n'],
    alsoSuccess: { 'no words': ['+OK\r\n', STLS, '+OK\r\n'] },
    refusals: {
      'no service': [['-ERR busy\r\n'], /refused the connection: '-ERR busy'/],
      'no TLS': [[POP3_OK, STLS, '-ERR no\r\n'], /refused STLS: '-ERR no'/],
      nonsense: [[POP3_OK, STLS, '+OKAY\r\n'], /no answer to STLS, but '\+OKAY'/],
    },
    tooLong: { 'a line': [long('+OK ')] },
  },
  ftp: {
    success: ['220 ready\r\n', AUTH_TLS, '234 go\r\n'],
    alsoSuccess: {
      'lines without code between': [
        '220-hello\r\n250 is no code here\r\n 220 nor this\r\n220 ready\r\n',
        AUTH_TLS,
        '234-AUTH\r\n234 go\r\n',
      ],
      'a wait first': ['120 in 1 minute\r\n220 ready\r\n', AUTH_TLS, '234 go\r\n'],
    },
    refusals: {
      'no service': [['421 too many\r\n'], /refused the connection: '421 too many'/],
      'no TLS': [['220 ready\r\n', AUTH_TLS, '530 log in\r\n'], /refused AUTH TLS: '530 log in'/],
      'more security data': [['220 ready\r\n', AUTH_TLS, '334 more\r\n'], /AUTH TLS: '334 more'/],
    },
    tooLong: {
      'a line': [long('220 ')],
      'a reply': [`220-\r\n${'advertisement\r\n'.repeat(5_000)}`],
    },
  },
  ldap: {
    success: [LDAP_REQUEST, extendedResponse()],
    alsoSuccess: {
      'its name told': [LDAP_REQUEST, extendedResponse({ name: '1.3.6.1.4.1.1466.20037' })],
      'a longer form of length': [LDAP_REQUEST, extendedResponse({ words: 'w'.repeat(200) })],
    },
    refusals: {
      protocolError: [
        [LDAP_REQUEST, extendedResponse({ code: 2, words: 'unsupported' })],
        /refused StartTLS: 'resultCode 2 \(protocolError\): unsupported'/,
      ],
      'a code of its own': [
        [LDAP_REQUEST, extendedResponse({ code: 99 })],
        /refused StartTLS: 'resultCode 99'/,
      ],
      'Notice of Disconnection': [
        [LDAP_REQUEST, extendedResponse({ id: 0, code: 52, name: '1.3.6.1.4.1.1466.20036' })],
        /refused StartTLS: 'resultCode 52 \(unavailable\)'/,
      ],
      'success of another message': [
        [LDAP_REQUEST, extendedResponse({ id: 2 })],
        /sent no StartTLS/,
      ],
      'success of another operation': [
        [LDAP_REQUEST, extendedResponse({ name: '1.2.3' })],
        /sent no StartTLS response/,
      ],
      'a bind response': [
        [LDAP_REQUEST, extendedResponse({ operation: 0x61 })],
        /sent no StartTLS response/,
      ],
      'no ASN.1 inside': [[LDAP_REQUEST, bytes('3004 ffffffff')], /sent no StartTLS response/],
      'an indefinite length': [[LDAP_REQUEST, bytes('3080 0000')], /sent no StartTLS response/],
      'a code of no length': [
        [LDAP_REQUEST, bytes('300b 020101 7806 0a00 0400 0400')],
        /sent no StartTLS response/,
      ],
      'a code too large for a number': [
        [LDAP_REQUEST, bytes('3014 020101 780f 0a09 800000000000000000 0400 0400')],
        /sent no StartTLS response/,
      ],
    },
    tooLong: { 'a message': [LDAP_REQUEST, bytes('3084 00100000')] },
  },
  postgres: {
    success: [SSL_REQUEST, 'S'],
    alsoSuccess: {},
    refusals: {
      'no TLS': [[SSL_REQUEST, 'N'], /refused SSLRequest: 'N'/],
      // Words that come from nobody in particular are not repeated (CVE-2024-10977).
      'an error': [
        [SSL_REQUEST, 'E\0\0\0\x20SFATAL\0Mcall this number\0\0'],
        /refused SSLRequest: it answered with an error$/,
      ],
    },
    tooLong: {},
  },
  mysql: {
    success: [mysqlHandshake(CLIENT_SSL | 0xf7ff), MYSQL_REQUEST],
    alsoSuccess: { 'few capabilities': [mysqlHandshake(CLIENT_SSL), MYSQL_REQUEST] },
    refusals: {
      'no TLS': [[mysqlHandshake(0xf7ff)], /does not offer STARTTLS, only 'plaintext'/],
      'an error': [
        [packet(0, Buffer.concat([bytes('ff 6a04'), Buffer.from('Host is not allowed')]))],
        /refused the connection: 'Host is not allowed'/,
      ],
      'an error with a state': [
        [packet(0, Buffer.concat([bytes('ff 1004'), Buffer.from('#08004Too many')]))],
        /refused the connection: 'Too many'/,
      ],
      'version 9': [[mysqlHandshake(CLIENT_SSL, 9)], /no MySQL handshake of version 10/],
      'no version': [[packet(0, new Uint8Array())], /sent no MySQL handshake, but/],
      'a handshake cut short': [[packet(0, bytes('0a 38 00 01'))], /no MySQL handshake/],
      'no end of a name': [[packet(0, bytes('0a 38 39 31'))], /no MySQL handshake/],
    },
    tooLong: { 'a message': [bytes('00ff00 00')] },
  },
  xmpp: {
    success: [XMPP_HELLO, STREAM + FEATURES, XMPP_STARTTLS, PROCEED],
    alsoSuccess: {
      'other prefixes, quotes, white space, more features': [
        XMPP_HELLO,
        `\n<?xml version="1.0" encoding="UTF-8" ?>\n<s:stream xmlns:s="http://etherx.jabber.org/streams" xml:lang='en' x='a>b' version="1.0" xmlns="jabber:client">\n <s:features>\n  <mechanisms xmlns="urn:ietf:params:xml:ns:xmpp-sasl"><mechanism>PLAIN</mechanism></mechanisms>\n  <t:starttls xmlns:t="${TLS_NAMESPACE}"></t:starttls>\n </s:features>`,
        XMPP_STARTTLS,
        `<t:proceed xmlns:t="${TLS_NAMESPACE}"></t:proceed >`,
      ],
    },
    refusals: {
      'a stream error': [
        [
          XMPP_HELLO,
          `${STREAM}<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>`,
        ],
        /refused the stream: '<stream:error><host-unknown /,
      ],
      failure: [
        [
          XMPP_HELLO,
          STREAM + FEATURES,
          XMPP_STARTTLS,
          `<failure xmlns='${TLS_NAMESPACE}'/></stream:stream>`,
        ],
        /refused starttls: '<failure /,
      ],
      'proceed of another namespace': [
        [XMPP_HELLO, STREAM + FEATURES, XMPP_STARTTLS, '<proceed/>'],
        /refused starttls: '<proceed\/>'/,
      ],
      'text before proceed': [
        [XMPP_HELLO, STREAM + FEATURES, XMPP_STARTTLS, `yes${PROCEED}`],
        /sent no answer to starttls, but 'yes<proceed /,
      ],
      'no offer': [
        [XMPP_HELLO, `${STREAM}<stream:features><starttls/></stream:features>`],
        /does not offer STARTTLS, only '<stream:features>/,
      ],
      'no version': [
        [XMPP_HELLO, "<s:stream xmlns:s='http://etherx.jabber.org/streams'>"],
        /does not offer STARTTLS, only '<s:stream /,
      ],
      'no stream': [[XMPP_HELLO, "<html lang='en'>"], /sent no XMPP stream header, but '<html /],
      'no features': [[XMPP_HELLO, `${STREAM}<message/>`], /no stream features, but '<message\/>'/],
      'the stream ends': [[XMPP_HELLO, `${STREAM}</stream:stream>`], /but '<\/stream:stream>'/],
      'tags that do not match': [
        [XMPP_HELLO, `${STREAM}<stream:features><a></b>`],
        /but '<stream:features><a><\/b>'/,
      ],
      'a comment': [[XMPP_HELLO, `${STREAM}<!-- -->`], /but '<!-- -->'/],
      'an empty stream': [[XMPP_HELLO, '<stream/>'], /no XMPP stream header, but '<stream\/>'/],
    },
    tooLong: {
      'a tag': [XMPP_HELLO, long('<stream:stream a="')],
      'an element': [XMPP_HELLO, `${STREAM}<stream:features>${'<a/>'.repeat(20_000)}`],
    },
  },
};

/** What the client has said and nobody has read yet. */
class Ears {
  readonly #transport: Duplex;
  #heard: Buffer = Buffer.alloc(0);
  #over = false;
  #wake = () => {};
  readonly #onData = (chunk: Buffer) => {
    this.#heard = Buffer.concat([this.#heard, chunk]);
    this.#wake();
  };
  readonly #onOver = () => {
    this.#over = true;
    this.#wake();
  };

  constructor(transport: Duplex) {
    this.#transport = transport;
    transport.on('data', this.#onData);
    transport.on('end', this.#onOver);
    transport.on('close', this.#onOver);
  }

  async hear(expected: RegExp): Promise<void> {
    for (;;) {
      const found = expected.exec(this.#heard.toString('latin1'));
      if (found !== null) {
        this.#heard = this.#heard.subarray(found[0].length);
        return;
      }
      if (this.#over) {
        throw new Error(
          `the client never said ${expected}, but '${this.#heard.toString('latin1')}'`,
        );
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Lets go of the transport. @returns what came beyond the last thing that was waited for. */
  detach(): Buffer {
    this.#transport.off('data', this.#onData);
    this.#transport.off('end', this.#onOver);
    this.#transport.off('close', this.#onOver);
    this.#transport.pause();
    return this.#heard;
  }
}

/**
 * Plays the server's part.
 *
 * @returns what the client said beyond it: the `head` of a TLS server.
 */
export async function perform(
  transport: Duplex,
  steps: readonly Step[],
  pace: 'whole' | 'bytes' = 'whole',
): Promise<Buffer> {
  const ears = new Ears(transport);
  const say = (words: Uint8Array) =>
    new Promise<void>((resolve) => {
      transport.write(words, () => resolve());
    });
  try {
    for (const step of steps) {
      if (step instanceof RegExp) {
        await ears.hear(step);
        continue;
      }
      const words = Buffer.from(step as string);
      if (pace === 'whole') await say(words);
      else for (let at = 0; at < words.length; at++) await say(words.subarray(at, at + 1));
    }
  } finally {
    ears.detach();
  }
  return ears.detach();
}

/** A TCP server of the test's own, its only connection's two ends, and their end after the test. */
export async function tcpPair(scope: Scope): Promise<{ client: net.Socket; server: net.Socket }> {
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  scope.defer(() => listener.close());
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as net.AddressInfo;
  const client = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const [[server]] = (await Promise.all([
    once(listener, 'connection'),
    once(client, 'connect'),
  ])) as [[net.Socket], unknown];
  // Its end stays until the test has looked at the client's.
  scope.peersStay();
  // A side that is destroyed may reset the other.
  server.on('error', () => {});
  scope.defer(() => server.destroy());
  scope.defer(() => client.destroy());
  listener.close();
  return { client, server };
}
