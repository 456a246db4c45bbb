// @ts-check
/**
 * What is measured. A work is one job done by several in turn; its cases say who is compared to whom
 * in it, so that one run of `node:tls` serves both of our faces.
 *
 * @typedef {import('./processes.mjs').Entry} Entry
 * @typedef {import('./processes.mjs').Amount} Amount
 * @typedef {import('./processes.mjs').Sample} Sample
 * @typedef {import('./processes.mjs').LoadOptions} LoadOptions
 */
import { bunVersion, goVersion, IDLE, nodeVersions, printed } from './processes.mjs';

/**
 * @typedef {object} Metric one figure of a sample
 * @property {string} suffix of the case's name
 * @property {boolean} headline whether it is the case's first figure, which the target is about
 * @property {string} unit
 * @property {boolean} less whether less is better
 * @property {string} [part] of the task
 * @property {(sample: Sample) => number | undefined} of
 */
/**
 * @typedef {object} Comparison
 * @property {string} name
 * @property {string} ours an entry's id
 * @property {string} peer an entry's id
 * @property {number} [target] what the headline's ratio is to reach
 * @property {Readonly<Record<string, number | undefined>>} [targets] the same for each part of a task of several
 */
/**
 * @typedef {object} Work
 * @property {string} name
 * @property {string} group
 * @property {LoadOptions} load
 * @property {Amount} amount
 * @property {readonly Entry[]} entries in the order of their turns
 * @property {readonly Comparison[]} cases
 * @property {readonly Metric[]} metrics
 * @property {number} seconds that one turn takes, roughly
 * @property {number} [runs] at most so many turns
 * @property {number} [times] so many turns for each one of the others, where small differences are looked for
 */

const MB = 1e6;
const MIB = 1024 * 1024;

// ---- how samples become figures

/** @type {Metric} */
const RATE = {
  suffix: '',
  headline: true,
  unit: 'MB/s',
  less: false,
  of: (s) => s.amount / s.wall / MB,
};
/** @type {Metric} */
const CPU_PER_BYTE = {
  suffix: ' (CPU time)',
  headline: false,
  unit: 'ns/byte',
  less: true,
  of: (s) => (s.cpu / s.amount) * 1e9,
};
/** @type {Metric} */
const PER_SECOND = {
  suffix: '',
  headline: true,
  unit: '1/s',
  less: false,
  of: (s) => s.amount / s.wall,
};
/** @type {Metric} */
const CPU_EACH = {
  suffix: ' (CPU time)',
  headline: false,
  unit: 'µs each',
  less: true,
  of: (s) => (s.cpu / s.amount) * 1e6,
};
/** @type {Metric} */
const WALL_EACH = {
  suffix: '',
  headline: true,
  unit: 'µs each',
  less: true,
  of: (s) => (s.value ?? s.wall / s.amount) * 1e6,
};

/** The metrics with the CPU time as the headline. @param {readonly Metric[]} metrics */
const byCpu = (metrics) =>
  metrics.map((metric) => ({
    ...metric,
    suffix: metric.headline ? ' (wall time)' : '',
    headline: !metric.headline,
  }));

/** The metrics of one part of a `grow` sample. @param {string} part @param {readonly Metric[]} of */
const ofPart = (part, of) =>
  of.map((metric) => ({
    ...{ ...metric, part },
    suffix: `, ${part}${metric.suffix}`,
    of: (/** @type {Sample} */ sample) => {
      const own = sample.parts?.[part];
      return own === undefined ? undefined : metric.of(own);
    },
  }));

// ---- who takes part

/** What a peer is called, by the id of its entry. @type {Readonly<Record<string, string>>} */
export const PEER_NAMES = {
  tls: 'node:tls',
  boost: `Boost.Asio ${boostVersion()}`.trim(),
  bun: `Bun ${bunVersion() ?? ''}`.trim(),
  go: `Go ${goVersion() ?? ''}`.trim(),
  python: `${printed('python3', '--version') ?? 'Python'} asyncio`,
  timed: 'node:tls with setTimeout()',
  tcp: 'plain TCP (node:net)',
  openssl: 'openssl speed',
  write: 'stream.write()',
  'tls-write': 'socket.write() of node:tls',
  plain: 'without register',
};

function boostVersion() {
  const macros = printed(
    'g++',
    '-E',
    '-dM',
    '-include',
    'boost/version.hpp',
    '-x',
    'c++',
    '/dev/null',
  );
  const found = /BOOST_LIB_VERSION "(\d+)_(\d+)/.exec(macros ?? '');
  return found === null ? '' : `${found[1]}.${found[2]}`;
}

/** @param {string} task @param {string} face @returns {Entry} */
const node = (task, face) => ({ id: face, program: 'node', task, face });

/** `read()` and `write()` of a stream, on the engine. @param {string} task @param {'native' | 'tapped'} engine @returns {Entry} */
const onEngine = (task, engine) => ({
  ...{ id: engine, program: 'node', task },
  ...{ face: 'stream', engine },
});

/** Who else does the same, in languages of their own. */
const OTHERS = /** @type {const} */ (['boost', 'python', 'bun', 'go', 'openssl']);

/** @param {string} task @param {string} id @returns {Entry} */
const entryOf = (task, id) => {
  const program = OTHERS.find((one) => one === id);
  if (program !== undefined) return { id, program, task };
  return id === 'native' || id === 'tapped' ? onEngine(task, id) : node(task, id);
};

/** What one of us is called in a case. @type {Readonly<Record<string, string>>} */
const OURS = {
  native: 'native engine',
  tapped: 'tapped engine',
  duplex: 'stream.toDuplex()',
  secure: 'secureSocket()',
};

/** Targets stand for Node 20 and, in the second place, for newer ones. @typedef {number | readonly [number, number]} Target */

/**
 * Ours against some peers: the native engine against all of them, what else is ours against `node:tls` only.
 *
 * @param {string} name @param {string} task @param {Readonly<Record<string, Target | undefined>>} peers
 *   with the target of each
 * @param {readonly string[]} [ours] who takes part of ours
 * @param {Readonly<Record<string, Target>>} [parts] what the first of them is to reach in each part of the task
 * @returns {Pick<Work, 'entries' | 'cases'>}
 */
function against(name, task, peers, ours = Object.keys(OURS), parts = {}) {
  const names = Object.keys(peers);
  const [first = 'tls', ...rest] = names;
  const [best = 'native', ...others] = ours;
  return {
    entries: [best, first, ...others, ...rest].map((id) => entryOf(task, id)),
    cases: [
      ...names.map((peer) => ({
        ...{ name: `${name}, ${OURS[best]}`, ours: best, peer },
        ...target(peers[peer]),
        targets: Object.fromEntries(
          Object.entries(parts).map(([part, value]) => [part, target(value).target]),
        ),
      })),
      ...others.map((one) => ({
        ...{ name: `${name}, ${OURS[one]}`, ours: one, peer: 'tls' },
        // The drop-in is Node's own socket.
        ...target(one === 'secure' ? DROP_IN : undefined),
      })),
    ],
  };
}

/** What a drop-in with the add-on is to reach. */
const DROP_IN = 0.97;

/** @param {Target | undefined} value */
function target(value) {
  if (value === undefined) return {};
  if (typeof value === 'number') return { target: value };
  return { target: value[nodeVersions().node.startsWith('20.') ? 0 : 1] };
}

/**
 * @typedef {object} Sizes
 * @property {number} large bytes of a transfer in 64 KB writes
 * @property {number} medium bytes in 1 KB messages
 * @property {number} small bytes in 64-byte messages
 */

/**
 * The sizes for a number of bytes: that many in each, or less for messages unless `full`.
 *
 * @param {number} bytes @param {boolean} full @returns {Sizes}
 */
export const sizesFor = (bytes, full) =>
  full
    ? { large: bytes, medium: bytes, small: bytes }
    : { large: bytes, medium: bytes / 16, small: bytes / 64 };

/**
 * Bytes in messages of a size, with as many to warm up, and no fewer than the compiler needs: `write()` of
 * 1 KB takes twice its time for the first 200,000 times, and the records of the first half GB of a bulk transfer
 * are too few as well: there are only 16,384 in 256 MB.
 *
 * @param {number} total @param {number} size @param {number} rate MB/s, roughly
 * @returns {{ amount: Amount, seconds: number }} of one turn
 */
const inMessages = (total, size, rate) => {
  const enough = size > 16_384 ? 768 * MIB : Math.min(262_144 * size, 256 * MIB);
  const least = Math.max(Math.min(total, 512 * MIB), enough);
  const warm = Math.ceil(least / size) * size;
  return { amount: { total, warm, size }, seconds: 0.3 + (total + warm) / (rate * MB) };
};

// ---- the list

/** What is to be reached of `node:tls`, by the task; in messages, by their size as well. @type {Readonly<Record<string, Target>>} */
const BULK = { receive: 1.2, send: [1.2, 1.1] };
/** @type {Readonly<Record<string, Target>>} */
const MESSAGES = {
  'receive 1024': [2.0, 1.7],
  'send 1024': [1.5, 1.3],
  'receive 64': [2.0, 1.6],
  'send 64': [2.0, 1.5],
};

/** So long a client's lives keep the compiler at work: 1.2 ms of CPU time for each until then, and 0.9 behind it. */
const LIVES_TO_WARM = 2_400;

/** @param {Sizes} sizes @returns {Work[]} */
export function works({ large, medium, small }) {
  /** @type {Work[]} */
  const list = [];
  // Where a turn is of several transfers, or of processes that start anew, less will do.
  const share = Math.min(large, 256 * MIB);

  // Bulk and messages.
  const transfer = byCpu([RATE, CPU_PER_BYTE]);
  const each = byCpu([WALL_EACH, CPU_EACH]);
  const perSecond = byCpu([PER_SECOND, CPU_EACH]);
  for (const task of ['receive', 'send', 'both']) {
    const both = task === 'both';
    const name = both ? 'both ways at once, 64 KB' : `${task} 64 KB`;
    list.push({
      name,
      group: 'throughput',
      load: {},
      ...inMessages(large, 65_536, 1_000),
      metrics: transfer,
      ...against(name, task, {
        tls: BULK[task],
        boost: both ? undefined : 1.4,
        ...{ python: undefined, bun: undefined, go: undefined, tcp: undefined },
        ...(both ? {} : { openssl: undefined }),
      }),
    });
    if (both) continue;
    for (const [size, total, label] of /** @type {const} */ ([
      [1024, medium, '1 KB'],
      [64, small, '64 B'],
    ])) {
      list.push({
        name: `${task} ${label}`,
        group: 'messages',
        load: {},
        ...inMessages(total, size, size === 64 ? 25 : 300),
        metrics: transfer,
        ...against(`${task} ${label}`, task, {
          tls: MESSAGES[`${task} ${size}`],
          boost: size === 1024 ? 1.0 : undefined,
          bun: undefined,
          go: undefined,
        }),
      });
    }
  }

  // A small request and its answer.
  list.push({
    name: 'request and answer, 64 B',
    group: 'latency',
    load: {},
    amount: { total: 10_000, warm: 16_000, size: 64 },
    metrics: each,
    seconds: 2.6,
    ...against('request and answer, 64 B', 'echo', {
      tls: [1.1, 1.15],
      timed: undefined,
      boost: 0.7,
      ...{ python: undefined, bun: undefined, go: undefined },
    }),
  });

  // The same with a peer that is written for Node, as most peers of a program for Node are: what it sends in one turn
  // of its event loop comes in records that are full, small writes among it.
  for (const [task, size, total, label] of /** @type {const} */ ([
    ['receive', 65_536, large, '64 KB'],
    ['send', 65_536, large, '64 KB'],
    ['receive', 1024, medium, '1 KB'],
    ['receive', 64, small, '64 B'],
    ['echo', 64, 0, ''],
  ])) {
    const name = `${label === '' ? 'request and answer, 64 B' : `${task} ${label}`}, peer in Node`;
    list.push({
      name,
      group: 'peer in Node',
      load: { node: true },
      ...(task === 'echo'
        ? { amount: { total: 10_000, warm: 16_000, size }, seconds: 3.5 }
        : inMessages(total, size, size === 64 ? 20 : 250)),
      metrics: task === 'echo' ? each : transfer,
      ...against(name, task, { tls: undefined }, ['native', 'tapped']),
    });
  }

  // Whole lives.
  for (const tls of /** @type {const} */ (['1.3', '1.2'])) {
    for (const resume of [false, true]) {
      const name = `whole lives, ${resume ? 'resumed' : 'full'}, TLS ${tls}`;
      list.push({
        name,
        group: 'lives',
        load: suite(tls, '128'),
        amount: { total: 400, warm: LIVES_TO_WARM, connections: 8, resume },
        ...against(
          name,
          'lives',
          {
            tls: [2.2, 1.8],
            boost: 0.5,
            // Neither asyncio nor Bun.connect takes a session.
            ...(resume ? {} : { python: undefined, bun: undefined }),
            go: undefined,
          },
          ['native', 'tapped', 'secure'],
        ),
        metrics: perSecond,
        seconds: 4,
      });
    }
  }
  for (const [tls, resume] of /** @type {const} */ ([
    ['1.3', false],
    ['1.3', true],
    ['1.2', false],
  ])) {
    const name = `whole lives as a server, ${resume ? 'resumed' : 'full'}, TLS ${tls}`;
    list.push({
      name,
      group: 'lives',
      load: suite(tls, '128'),
      // A server runs long, and what a life touches is compiled only after some thousand.
      amount: { total: 1_000, warm: 4_000, connections: 8, resume },
      ...against(name, 'server-lives', { tls: [1.6, 1.5] }, ['native', 'tapped', 'secure']),
      metrics: perSecond,
      seconds: 7,
    });
  }

  // Closing.
  for (const wait of [true, false]) {
    const task = wait ? 'shutdown-wait' : 'shutdown-no-wait';
    const name = `shutdown() to its result, ${wait ? 'waiting' : 'not waiting'}`;
    list.push({
      name,
      group: 'closing',
      load: {},
      amount: { total: 200, warm: 200 },
      ...against(name, task, { tls: undefined }, ['native', 'tapped']),
      metrics: [WALL_EACH],
      seconds: 0.9,
    });
  }
  const cost = 'cost of a shutdown without waiting';
  list.push({
    name: cost,
    group: 'closing',
    load: {},
    // The compiler, whose threads count, is at work for the first 5,000.
    amount: { total: 2_700, warm: 7_200 },
    entries: [
      onEngine('cost-of-shutdown', 'native'),
      { ...onEngine('cost-of-write', 'native'), id: 'write' },
      node('cost-of-shutdown', 'tls'),
      { ...node('cost-of-write', 'tls'), id: 'tls-write' },
    ],
    cases: [
      { name: cost, ours: 'native', peer: 'write', target: 0.95 },
      { name: cost, ours: 'native', peer: 'tls' },
      { name: 'cost of a write', ours: 'write', peer: 'tls-write' },
    ],
    metrics: each,
    seconds: 15,
    runs: 3,
  });

  // Memory. Of a few connections only the JavaScript heap is exact enough to tell.
  list.push({
    name: 'memory per idle connection',
    group: 'memory',
    load: {},
    amount: { total: 0, warm: 0 },
    // Half of it, and a ratio above 1 is better.
    ...against('memory per idle connection', 'idle-memory', { tls: 2 }, [
      ...['native', 'tapped', 'duplex'],
    ]),
    metrics: [
      { ...memory(`rss 2000`, ', 2000 open'), headline: true },
      memory(`rss 1000`, ', 1000 open'),
      ...IDLE.steps.map((open) => memory(`heap ${open}`, `, ${open} open (JavaScript heap)`)),
    ],
    seconds: 5,
    runs: 3,
  });

  // The cost of `register`.
  for (const [name, task, job, metrics] of /** @type {const} */ ([
    [
      'https requests',
      'https-requests',
      // The compiler is at work for the first 8,000.
      { amount: { total: 16_000, warm: 10_000, connections: 8 }, seconds: 3.5 },
      perSecond,
    ],
    ['fetch of a large body', 'fetch-body', inMessages(large / 2, 65_536, 600), transfer],
  ])) {
    list.push({
      name,
      group: 'register',
      load: {},
      ...job,
      entries: [
        { id: 'register', program: 'node', task, face: 'tls', register: true },
        { id: 'plain', program: 'node', task, face: 'tls', register: false },
      ],
      cases: [{ name: `${name}, with register`, ours: 'register', peer: 'plain', target: 0.97 }],
      metrics,
      times: 3,
    });
  }

  // Other ciphers.
  for (const [label, load] of /** @type {const} */ ([
    ['AES-256-GCM', suite('1.3', '256')],
    ['ChaCha20', suite('1.3', 'chacha')],
  ])) {
    for (const task of ['receive', 'send']) {
      const name = `${task} 64 KB, ${label}`;
      list.push({
        name,
        group: 'ciphers',
        load,
        ...inMessages(large / 8, 65_536, 1_000),
        metrics: transfer,
        ...against(name, task, { tls: BULK[task], boost: 1.4, openssl: undefined }),
      });
    }
  }

  // How it grows.
  for (const connections of [10, 100, 1_000]) {
    const runs = connections === 1_000 ? { runs: 3 } : {};
    list.push({
      name: `${connections} connections`,
      group: 'growth',
      load: {},
      amount: { total: share, warm: share, size: 65_536, connections },
      ...against(
        `${connections} connections`,
        'grow',
        { tls: undefined },
        ['native', 'tapped', 'duplex'],
        { receive: 1.1, send: 1.1, echo: [1.25, 1.2] },
      ),
      metrics: [
        ...ofPart('receive', transfer),
        ...ofPart('send', transfer),
        ...ofPart('echo', perSecond),
      ],
      seconds: 4 + connections / 250,
      ...runs,
    });
    list.push({
      name: `whole lives, ${connections} at once`,
      group: 'growth',
      load: {},
      amount: {
        total: Math.max(200, connections),
        warm: LIVES_TO_WARM,
        connections,
      },
      ...against(`whole lives, ${connections} at once`, 'lives', { tls: undefined }, ['native']),
      metrics: perSecond,
      seconds: 4 + connections / 500,
      ...runs,
    });
  }
  return list;
}

/** @param {string} key @param {string} suffix @returns {Metric} */
function memory(key, suffix) {
  return {
    suffix,
    headline: false,
    unit: 'KB',
    less: true,
    of: (s) => (s.perConnection?.[key] ?? Number.NaN) / 1e3,
  };
}

/** @param {'1.2' | '1.3'} tls @param {'128' | '256' | 'chacha'} cipher @returns {LoadOptions} */
function suite(tls, cipher) {
  const names = {
    1.2: {
      128: 'ECDHE-ECDSA-AES128-GCM-SHA256',
      256: 'ECDHE-ECDSA-AES256-GCM-SHA384',
      chacha: 'ECDHE-ECDSA-CHACHA20-POLY1305',
    },
    1.3: {
      128: 'TLS_AES_128_GCM_SHA256',
      256: 'TLS_AES_256_GCM_SHA384',
      chacha: 'TLS_CHACHA20_POLY1305_SHA256',
    },
  };
  return { tls, cipher: names[tls][cipher] };
}
