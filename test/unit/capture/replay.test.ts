/** Captures, of others and of our own in every form of file, and what is made of them. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { KeyLog } from '../../../src/capture/keylog.ts';
import { PcapngRecorder } from '../../../src/capture/pcapng.ts';
import { type CapturedConnection, replayConnection } from '../../../src/capture/replay.ts';
import { type CaptureSurvey, surveyCapture } from '../../../src/capture/survey.ts';
import { MalformedError } from '../../../src/errors.ts';
import { connect, type Observation } from '../../../src/index.ts';
import {
  asIpv6,
  framesOf,
  LINKS,
  payloadOf,
  pcap,
  pcapng,
  type Recorded,
  recorded,
  slice,
} from '../../support/capture-frames.ts';
import {
  captureLive,
  describeTools,
  folder,
  type LiveEnding,
} from '../../support/capture-tools.ts';
import { randomNumbers, runSeed } from '../../support/cert-capture.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { Log, only, pattern, VERSIONS, type Version } from '../../support/core-streams.ts';
import { listen } from '../../support/core-transport.ts';
import { CraftedPeer } from '../../support/crafted-records.ts';

interface Looked {
  readonly survey: CaptureSurvey;
  readonly captured: CapturedConnection;
  readonly client: Log;
  readonly server: Log;
}

/** Looks into the first connection of a file. */
function look(file: Uint8Array, keys = '', number = 1): Looked {
  const keyLog = new KeyLog();
  keyLog.add(keys);
  const survey = surveyCapture([file], keyLog);
  const [client, server] = [new Log(), new Log()];
  const captured = replayConnection([file], { number, keyLog, client, server });
  if (captured === null) throw new Error(`no connection ${number}`);
  return { survey, captured, client, server };
}

const ends = (log: Log): Observation['type'][] =>
  log.seen.map(({ type }) => type).filter((type) => type.startsWith('transport-'));

/** Both sides' close_notify was seen, and both verdicts are good. */
function expectSecure({ captured, client, server }: Looked, version: Version): void {
  expect(captured).toMatchObject({ protocol: version, established: true });
  for (const party of [captured.client, captured.server]) {
    expect(party.closeNotify).not.toBeNull();
    expect(party).toMatchObject({ doubt: null, closure: { verdict: 'secure' } });
  }
  for (const log of [client, server]) {
    expect(log.of('close-notify')).toHaveLength(2);
    expect(log.of('phase').at(-1)).toMatchObject({ name: 'handshake', protocol: version });
    expect(log.of('verdict').at(-1)).toMatchObject({ verdict: 'secure' });
    expect(log.times).toEqual([...log.times].sort((a, b) => a - b));
  }
}

const CAPTURERS: ReadonlyArray<
  readonly ['tcpdump' | 'dumpcap', string, (port: number, file: string) => [string, ...string[]]]
> = [
  [
    'tcpdump',
    'tcpdump on loopback (pcap, Ethernet)',
    (port, file) => [
      ...(['tcpdump', '-i', 'lo', '-U', '--immediate-mode', '-Z', 'root', '-w', file] as const),
      `port ${port}`,
    ],
  ],
  [
    'tcpdump',
    'tcpdump on all interfaces (pcap, Linux cooked 2)',
    (port, file) => [
      ...(['tcpdump', '-i', 'any', '-y', 'LINUX_SLL2', '-U', '--immediate-mode'] as const),
      ...['-Z', 'root', '-w', file, `port ${port}`],
    ],
  ],
  [
    'dumpcap',
    'dumpcap on loopback (pcapng)',
    (port, file) => ['dumpcap', '-i', 'lo', '-q', '-w', file, '-f', `port ${port}`],
  ],
];

/** What each ending must come to: verdict at the client, at the server. */
const OUTCOMES: Readonly<Record<LiveEnding, readonly [string, string]>> = {
  closed: ['secure', 'secure'],
  truncated: ['truncated', 'aborted'],
  reset: ['truncated', 'aborted'],
};

describeTls('captures of OpenSSL by others', () => {
  for (const [i, [tool, name, capturer]] of CAPTURERS.entries()) {
    describeTools([tool], name, () => {
      // All endings with the first, one with the others: they differ in the file, not in the wire.
      const endings = (i === 0 ? Object.keys(OUTCOMES) : ['closed']) as LiveEnding[];
      describe.each(i === 0 ? VERSIONS : (['TLSv1.3'] as const))('%s', (version) => {
        test.each(endings)('%s', (ending) =>
          clean(async (scope) => {
            const { file, keylog } = await captureLive(scope, version, ending, capturer);
            const looked = look(readFileSync(file), readFileSync(keylog, 'utf8'));
            const { captured, client } = looked;
            expect(looked.survey.connections).toHaveLength(1);
            expect([captured.client.closure?.verdict, captured.server.closure?.verdict]).toEqual(
              OUTCOMES[ending],
            );
            if (ending === 'closed') {
              expectSecure(looked, version);
              return;
            }
            expect(captured.server).toMatchObject({ closeNotify: null, doubt: null });
            expect(captured.client.closure?.truncation).toMatchObject({
              where: 'record-boundary',
              cause: ending === 'reset' ? 'reset' : 'eof',
            });
            expect(ends(client)[0]).toBe(ending === 'reset' ? 'transport-reset' : 'transport-eof');
          })(),
        );
      });
    });
  }

  describeTools(['tcpdump', 'editcap'], 'converted by editcap', () => {
    test(
      'to every format, and with the secrets inside',
      clean(async (scope) => {
        const capturer = CAPTURERS[0]?.[2] as (typeof CAPTURERS)[0][2];
        const { file, keylog } = await captureLive(scope, 'TLSv1.3', 'closed', capturer);
        const keys = readFileSync(keylog, 'utf8');
        const path = folder(scope);
        const edit = (...args: string[]) => {
          const to = join(path, `edited-${args.join('').replaceAll(/\W/g, '')}`);
          execFileSync('editcap', [...args, file, to], { stdio: 'ignore' });
          return readFileSync(to);
        };
        for (const format of ['pcap', 'nsecpcap', 'pcapng']) {
          expectSecure(look(edit('-F', format), keys), 'TLSv1.3');
        }
        expectSecure(look(edit('--inject-secrets', `tls,${keylog}`)), 'TLSv1.3');
        // Headers alone: what the records held is not known.
        const { captured } = look(edit('-s', '66'), keys);
        expect(captured.server.closure).toBeNull();
      }),
    );
  });
});

describeTls('one connection in every form', () => {
  const forms = (packets: readonly Buffer[], keys: string): Array<readonly [string, Buffer]> => [
    ...[true, false].flatMap((big) =>
      [true, false].map(
        (nano) =>
          [
            `pcap ${big ? 'big' : 'little'} ${nano ? 'nano' : 'micro'}`,
            pcap(packets, { big, nano }),
          ] as const,
      ),
    ),
    ...[true, false].flatMap((big) =>
      (['enhanced', 'simple', 'old'] as const).map(
        (block) =>
          [`pcapng ${big ? 'big' : 'little'} ${block}`, pcapng(packets, { big, block })] as const,
      ),
    ),
    ...[3, 9, 12, 0x80 | 10, 0x80 | 20].map(
      (resolution) => [`pcapng resolution ${resolution}`, pcapng(packets, { resolution })] as const,
    ),
    ...LINKS.map(
      ([name, linkType, wrap]) =>
        [name, pcap(packets.map(wrap), { big: false, nano: false }, linkType)] as const,
    ),
    ['IPv6', pcap(packets.map((packet) => asIpv6(packet)))],
    ['IPv6 with extensions', pcap(packets.map((packet) => asIpv6(packet, 2)))],
    ['secrets inside', pcapng(packets, { secrets: keys, big: true })],
    [
      'two sections',
      Buffer.concat([pcapng(packets.slice(0, 7)), pcapng(packets.slice(7), { big: true })]),
    ],
  ];

  test.each(VERSIONS)('%s', (version) =>
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, version);
      for (const [name, file] of forms(packets, keys)) {
        const looked = look(file, keys);
        try {
          expectSecure(looked, version);
          expect(looked.survey.cutShort).toBe(false);
        } catch (error) {
          throw new Error(name, { cause: error });
        }
      }
    })(),
  );

  test(
    'times: from the first packet, in the unit of the file',
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, 'TLSv1.3');
      for (const file of [
        pcap(packets),
        pcap(packets, { big: true, nano: true }),
        pcapng(packets, { resolution: 9 }),
      ]) {
        const { captured, survey } = look(file, keys);
        expect(survey.connections[0]?.at).toBe(1_700_000_000_000_000_000n);
        // A packet every millisecond.
        const fins = packets.flatMap((packet, i) =>
          ((packet[33] as number) & 1) !== 0 ? [i] : [],
        );
        const found = [captured.client.fin, captured.server.fin].filter((at) => at !== null);
        expect(found.sort((a, b) => a - b)).toEqual(fins);
      }
    }),
  );
});

/** The same packets, but one side's numbers begin elsewhere. */
function shifted(packets: readonly Buffer[], by: number): Buffer[] {
  const opener = packets[0]?.readUInt16BE(20);
  return packets.map((packet) => {
    const copy = Buffer.from(packet);
    const place = copy.readUInt16BE(20) === opener ? 24 : 28;
    if (place === 24 || ((copy[33] as number) & 16) !== 0) {
      copy.writeUInt32BE((copy.readUInt32BE(place) + by) >>> 0, place);
    }
    return copy;
  });
}

/** Each payload in several overlapping packets, the order mixed within a window. */
function disturbed(packets: readonly Buffer[], random: (below: number) => number): Buffer[] {
  const pieces: Buffer[] = [];
  for (const packet of packets) {
    const { length } = payloadOf(packet);
    if (length < 4) {
      pieces.push(packet);
      continue;
    }
    const cutAt = 1 + random(length - 2);
    const overlap = random(Math.min(cutAt, length - cutAt));
    const group = [
      slice(packet, 0, cutAt),
      slice(packet, cutAt - overlap, length),
      ...(random(3) === 0 ? [packet] : []),
    ];
    // Any order within what one packet was: what crossed before still comes before.
    group.sort(() => random(3) - 1);
    pieces.push(...group);
  }
  return pieces;
}

describeTls('TCP', () => {
  test.each(VERSIONS)('%s: cut, doubled, overlapping, in another order', (version) =>
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, version, 'secure', pattern(50_000));
      const seed = runSeed();
      const random = randomNumbers(seed);
      for (let i = 0; i < 40; i++) {
        try {
          expectSecure(look(pcap(disturbed(packets, random)), keys), version);
        } catch (error) {
          throw new Error(`SEED=${seed}, round ${i}`, { cause: error });
        }
      }
    })(),
  );

  test(
    'sequence numbers wrap around',
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, 'TLSv1.3', 'secure', pattern(50_000));
      for (const by of [-1_100, -1_500, -1_001, 0x7fffff00, 0x80000000]) {
        expectSecure(look(pcap(shifted(packets, by)), keys), 'TLSv1.3');
      }
    }),
  );

  test(
    'a packet that was not captured: no verdict, and nobody is told of an end',
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, 'TLSv1.3');
      let gaps = 0;
      for (const [i, packet] of packets.entries()) {
        const without = packets.filter((one) => one !== packet);
        if (payloadOf(packet).length === 0 || i < 5) continue;
        const { captured, client, server } = look(pcap(without), keys);
        // Where nothing comes behind what is missing, the connection just goes on.
        const { verdict } = captured.client.closure ?? { verdict: null };
        expect(verdict ?? 'open', `without packet ${i}`).toBe('open');
        if (verdict === 'open') continue;
        const doubtful = captured.server.doubt !== null ? 'server' : 'client';
        expect(captured[doubtful].doubt).toMatch(/were not captured/);
        expect(ends(doubtful === 'server' ? client : server)).not.toContain('transport-eof');
        gaps++;
      }
      expect(gaps).toBeGreaterThan(2);
    }),
  );

  test(
    'several connections, also between the same two ports',
    clean(async (scope) => {
      const first = await recorded(scope, 'TLSv1.2');
      const second = await recorded(scope, 'TLSv1.3', 'truncated');
      const moved = shifted(second.packets, 77_777);
      const keys = first.keys + second.keys;
      const one = look(pcap([...first.packets, ...moved]), keys, 1);
      expect(one.survey.connections.map(({ tls, number }) => [number, tls])).toEqual([
        [1, true],
        [2, true],
      ]);
      expectSecure(one, 'TLSv1.2');
      const two = look(pcap([...first.packets, ...moved]), keys, 2);
      expect(two.captured).toMatchObject({
        protocol: 'TLSv1.3',
        client: { closure: { verdict: 'truncated' } },
        server: { closeNotify: null, closure: { verdict: 'aborted' } },
      });
    }),
  );

  test(
    'RST from outside the window is nobody\'s: "silently drop the segment" (RFC 9293 section 3.10.7.4)',
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, 'TLSv1.3');
      const reset = slice(packets.at(-1) as Buffer, 0, 0, 4);
      reset.writeUInt32BE((reset.readUInt32BE(24) - 100_000) >>> 0, 24);
      const middle = packets.length - 8;
      const file = pcap([...packets.slice(0, middle), reset, ...packets.slice(middle)]);
      expectSecure(look(file, keys), 'TLSv1.3');
    }),
  );

  test(
    'bytes behind close_notify are trailing data, not TLS',
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, 'TLSv1.2');
      const fin = packets.findIndex((packet) => ((packet[33] as number) & 1) !== 0);
      const ending = packets[fin] as Buffer;
      const text = Buffer.from('back to plaintext\r\n');
      const extra = Buffer.concat([ending, text]);
      extra.writeUInt16BE(extra.length, 2);
      extra[33] = 24;
      const file = pcap([...packets.slice(0, fin), extra]);
      const { captured, client, server } = look(file, keys);
      const fromClient = ending.readUInt16BE(20) === packets[0]?.readUInt16BE(20);
      expect(captured[fromClient ? 'client' : 'server'].trailing).toBe(text.length);
      expect((fromClient ? server : client).of('trailing')).toEqual([
        { type: 'trailing', bytes: text.length },
      ]);
    }),
  );
});

describeTls('what is not known is not claimed', () => {
  const sides = ({ captured }: Looked) =>
    [captured.client, captured.server].map(({ closeNotify, doubt, closure }) => ({
      closeNotify: closeNotify !== null,
      doubt,
      verdict: closure?.verdict ?? null,
    }));

  test(
    'TLS 1.3 without keys: no verdict of a good or a bad ending',
    clean(async (scope) => {
      for (const ending of ['secure', 'truncated'] as const) {
        const { packets } = await recorded(scope, 'TLSv1.3', ending);
        const looked = look(pcap(packets));
        const unknown = { closeNotify: false, doubt: 'no key for its records', verdict: null };
        expect(sides(looked)).toEqual([unknown, unknown]);
        for (const log of [looked.client, looked.server]) {
          expect(ends(log)).toEqual([]);
          expect(log.of('close-notify')).toEqual([]);
        }
        expect(looked.captured.client.fin ?? looked.captured.server.fin).not.toBeNull();
      }
    }),
  );

  test(
    'TLS 1.2 without keys: a direction without any alert holds no close_notify',
    clean(async (scope) => {
      const cut = look(pcap((await recorded(scope, 'TLSv1.2', 'truncated')).packets));
      expect(cut.captured.server).toMatchObject({ closeNotify: null, doubt: null });
      expect(ends(cut.client)[0]).toBe('transport-eof');
      const whole = look(pcap((await recorded(scope, 'TLSv1.2')).packets));
      expect(whole.captured.server).toMatchObject({
        closeNotify: null,
        doubt: 'no key for its records',
        closure: null,
      });
    }),
  );

  test.each(VERSIONS)('%s: with the keys of another connection', (version) =>
    clean(async (scope) => {
      const { packets } = await recorded(scope, version);
      const { keys } = await recorded(scope, version);
      expect(sides(look(pcap(packets), keys)).map(({ verdict }) => verdict)).toEqual([null, null]);
    })(),
  );

  test.each(VERSIONS)('%s: a capture that stops early ends with no verdict but open', (version) =>
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, version);
      const closing = packets.length - 6;
      for (let kept = 4; kept < closing; kept++) {
        const { captured } = look(pcap(packets.slice(0, kept)), keys);
        for (const { closure } of [captured.client, captured.server]) {
          expect(closure?.verdict ?? 'open', `${kept} packets`).toBe('open');
        }
      }
    })(),
  );

  test.each(VERSIONS)('%s: no change to a truncated connection makes it whole', (version) =>
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, version, 'truncated');
      const seed = runSeed();
      const random = randomNumbers(seed);
      // An alert in the clear, close_notify by its words, where a stranger would put it.
      const last = packets.findLastIndex((packet) => payloadOf(packet).length > 0);
      const { length } = payloadOf(packets[last] as Buffer);
      const forged = Buffer.concat([
        slice(packets[last] as Buffer, length, length),
        Buffer.from('15030300020100', 'hex'),
      ]);
      forged.writeUInt16BE(forged.length, 2);
      for (let i = 0; i < 600; i++) {
        const changed = packets.map((packet) => Buffer.from(packet));
        for (let n = random(3); n >= 0; n--) {
          const packet = changed[random(changed.length)] as Buffer;
          const at = 20 + random(packet.length - 20);
          packet[at] = random(256);
        }
        if (random(2) === 0) changed.splice(last + 1, 0, forged);
        for (const number of look(pcap(changed), keys).survey.connections.map(
          (one) => one.number,
        )) {
          const { captured } = look(pcap(changed), keys, number);
          expect(captured.server.closeNotify, `SEED=${seed}, round ${i}`).toBeNull();
          expect(captured.client.closure?.verdict).not.toBe('secure');
        }
      }
    })(),
  );

  test.each(VERSIONS)('%s: close_notify in the clear, in the middle of the handshake', (version) =>
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, version, 'truncated');
      // Behind the ClientHello, whose sender it seems to come from.
      const { length } = payloadOf(packets[3] as Buffer);
      const forged = Buffer.concat([
        slice(packets[3] as Buffer, length, length),
        Buffer.from('15030300020100', 'hex'),
      ]);
      forged.writeUInt16BE(forged.length, 2);
      const later = shifted([packets[0] as Buffer, ...packets.slice(4)], 7).slice(1);
      const { captured, server } = look(pcap([...packets.slice(0, 4), forged, ...later]), keys);
      expect(captured).toMatchObject({ established: true, client: { closeNotify: null } });
      // What a stream makes of it, too: an alert that anybody can have sent.
      expect(server.of('alert')).toMatchObject([
        { alert: { name: 'close_notify', authenticated: false } },
      ]);
      expect(server.of('close-notify')).toEqual([]);
      expect(captured.server.closure?.verdict).toBe('alert');
    })(),
  );

  test(
    'a STARTTLS dialogue before TLS is counted, not read',
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, 'TLSv1.3');
      const dialogue = Buffer.from('220 mail.example\r\n');
      const [syn, synAck, ack] = packets as [Buffer, Buffer, Buffer];
      const greeting = Buffer.concat([slice(ack, 0, 0, 24), dialogue]);
      greeting.writeUInt16BE(greeting.length, 2);
      // The client speaks first here: its later numbers move on by as much.
      const later = shifted([syn, ...packets.slice(3)], dialogue.length).slice(1);
      const looked = look(pcap([syn, synAck, ack, greeting, ...later]), keys);
      expectSecure(looked, 'TLSv1.3');
      expect(looked.captured.plaintext).toBe(dialogue.length);
    }),
  );
});

describe('hostile files', () => {
  const refused = (file: Uint8Array): string => {
    try {
      surveyCapture([file], new KeyLog());
    } catch (error) {
      if (error instanceof MalformedError) return error.message;
      throw error;
    }
    throw new Error('it was read');
  };
  const packet = Buffer.alloc(60, 0x45);

  test.each([
    ['an empty file', Buffer.alloc(0), 'an empty file'],
    ['three bytes', Buffer.from('abc'), 'neither pcap nor pcapng'],
    ['text', Buffer.from('Not a capture at all.'), 'neither pcap nor pcapng'],
    ['gzip', Buffer.from('1f8b0800000000000000', 'hex'), 'packed with gzip'],
    ['a packet of 4 GB', u32At(pcap([packet]), 32, 0xffffffff), 'a packet of 4294967295 bytes'],
    ['pcap of version 3', u32At(pcap([packet]), 4, 3), 'pcap of version 3'],
    ['pcapng without its mark', u32At(pcapng([packet]), 8, 7), 'without its byte order mark'],
    ['a block of 4 GB', u32At(pcapng([packet]), 28 + 4, 0xfffffffc), 'a block that claims'],
    ['a block of 8 bytes', u32At(pcapng([packet]), 28 + 4, 8), 'a block that claims 8 bytes'],
    ['a block that is no multiple of 4', u32At(pcapng([packet]), 32, 33), 'a block that claims 33'],
    ['lengths that differ', u32At(pcapng([packet]), 24, 32), 'two lengths differ'],
    [
      'a packet of no interface',
      Buffer.concat([pcapng([]).subarray(0, 28), pcapng([packet]).subarray(28 + 32 + 20)]),
      'a packet of interface 0, which is not described',
    ],
  ])('%s', (_, file, message) => {
    expect(refused(file)).toContain(message);
  });

  test('a file that stops in the middle of a packet is read up to there', () => {
    for (const file of [pcap([packet, packet]), pcapng([packet, packet])]) {
      const { packets, cutShort } = surveyCapture([file.subarray(0, -5)], new KeyLog());
      expect({ packets, cutShort }).toEqual({ packets: 1, cutShort: true });
    }
  });

  test('chunks of any size', () => {
    const file = pcapng(Array.from({ length: 50 }, () => packet));
    const chunks = (size: number) =>
      Array.from({ length: Math.ceil(file.length / size) }, (_, i) =>
        file.subarray(i * size, (i + 1) * size),
      );
    for (const size of [1, 3, 100]) {
      expect(surveyCapture(chunks(size), new KeyLog()).packets).toBe(50);
    }
  });

  test('packets that hold no segment are counted by why', () => {
    const arp = Buffer.concat([Buffer.alloc(12), Buffer.from('0806', 'hex'), Buffer.alloc(28)]);
    const udp = Buffer.from(`4500001c00000000401100007f0000017f000001${'00'.repeat(8)}`, 'hex');
    const piece = Buffer.from(`4500001c00002000400600007f0000017f000001${'00'.repeat(8)}`, 'hex');
    expect(surveyCapture([pcap([arp], undefined, 1)], new KeyLog()).unusable.other).toBe(1);
    expect(surveyCapture([pcap([udp, piece, Buffer.alloc(3)])], new KeyLog()).unusable).toEqual({
      ...{ link: 0, other: 1, fragment: 1, broken: 1 },
    });
    expect(surveyCapture([pcap([udp], undefined, 147)], new KeyLog()).unusable.link).toBe(1);
  });

  test('a key log without end is refused', () => {
    const keyLog = new KeyLog();
    const line = (i: number) => `CLIENT_RANDOM ${i.toString(16).padStart(64, '0')} 00\n`;
    expect(() => {
      for (let i = 0; i < 500_001; i++) keyLog.add(line(i));
    }).toThrow(MalformedError);
  });

  describeTls('mutated', () => {
    test.each(VERSIONS)('%s: a result or MalformedError, and nothing else', (version) =>
      clean(async (scope) => {
        const { bytes, packets, keys }: Recorded = await recorded(scope, version);
        const files = [
          Buffer.from(bytes),
          pcap(packets),
          pcapng(packets, { big: true, secrets: keys }),
        ];
        const seed = runSeed();
        const random = randomNumbers(seed);
        let read = 0;
        for (let i = 0; i < 2_400; i++) {
          const file = Buffer.from(files[i % files.length] as Buffer);
          for (let n = random(6); n >= 0; n--) file[random(file.length)] = random(256);
          const part = random(4) === 0 ? file.subarray(0, random(file.length)) : file;
          try {
            const { connections } = surveyCapture([part], new KeyLog());
            for (const { number } of connections) look(part, keys, number);
            read++;
          } catch (error) {
            if (error instanceof MalformedError) continue;
            throw new Error(`SEED=${seed}, round ${i}`, { cause: error });
          }
        }
        // Most changes are in a packet, not in the file's own words.
        expect(read).toBeGreaterThan(600);
      })(),
    );

    test(
      'a flood of segments that wait for ever takes bounded memory, and bounded time',
      clean(async (scope) => {
        const { packets } = await recorded(scope, 'TLSv1.3');
        const base = packets.find((packet) => payloadOf(packet).length > 100) as Buffer;
        const flood = Array.from({ length: 60_000 }, (_, i) => {
          const copy = slice(base, 0, 100);
          copy.writeUInt32BE(
            (base.readUInt32BE(24) + 1_000_000 + ((i * 7919) % 60_000) * 200) >>> 0,
            24,
          );
          return copy;
        });
        const { captured } = look(pcap([...packets.slice(0, 3), base, ...flood]));
        expect(captured.client.doubt ?? captured.server.doubt).toMatch(/were not captured/);
      }),
    );
  });
});

function u32At(file: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(file);
  copy.writeUInt32LE(value, at);
  return copy;
}

test('frames keep their length on the wire', () => {
  const [frame] = framesOf(pcap([Buffer.alloc(90)], undefined, 101, 40));
  expect(frame).toMatchObject({ originalLength: 90, linkType: 101 });
  expect(frame?.bytes).toHaveLength(40);
});

describeTls('a capture that begins too late', () => {
  test(
    'says so, and judges nothing',
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, 'TLSv1.3', 'truncated');
      const { captured, client, server } = look(pcap(packets.slice(8)), keys);
      for (const party of [captured.client, captured.server]) {
        expect(party).toMatchObject({ closeNotify: null, closure: null });
        expect(party.doubt).toBe('no TLS handshake begins in what was captured');
      }
      expect([...ends(client), ...ends(server)]).toEqual([]);
    }),
  );
});

describeTls('a close_notify that calls itself fatal', () => {
  async function answered(scope: Scope, version: Version): Promise<CapturedConnection> {
    let peer: CraftedPeer | null = null;
    const port = await listen(scope, (socket) => {
      peer = new CraftedPeer('server', version, socket);
    });
    const recorder = new PcapngRecorder();
    const { ca } = pki();
    const stream = await connect({
      ...{ host: '127.0.0.1', port, servername: 'localhost', ca, record: recorder },
      ...only(version),
    });
    const server = peer as CraftedPeer | null;
    if (server === null) throw new Error('nobody was there');
    await server.ready();
    server.wire.end(server.alert(2, 0));
    // How the stream takes it is not asked here: it has read the alert by then.
    await stream.read().catch(() => {});
    const { captured } = look(recorder.bytes());
    stream.abort();
    server.destroy();
    return captured;
  }

  test(
    'is a fatal alert in TLS 1.2 (RFC 5246 section 7.2: "Alert messages with a level of fatal result in the immediate termination of the connection")',
    clean(async (scope) => {
      const { client, server } = await answered(scope, 'TLSv1.2');
      expect(server.closeNotify).toBeNull();
      expect(client.closure).toMatchObject({ verdict: 'alert', alert: { code: 0 } });
    }),
  );

  test(
    'is one all the same in TLS 1.3, where the level says nothing (RFC 9846 section 6)',
    clean(async (scope) => {
      const { client, server } = await answered(scope, 'TLSv1.3');
      expect(server.closeNotify).not.toBeNull();
      expect(client.closure).toMatchObject({ alert: null });
    }),
  );
});
