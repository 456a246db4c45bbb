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
import { IDLE, printed } from './processes.mjs';

/**
 * @typedef {object} Metric one figure of a sample
 * @property {string} suffix of the case's name
 * @property {boolean} headline whether it is the case's first figure, which the target is about
 * @property {string} unit
 * @property {boolean} less whether less is better
 * @property {(sample: Sample) => number | undefined} of
 */
/**
 * @typedef {object} Comparison
 * @property {string} name
 * @property {string} ours an entry's id
 * @property {string} peer an entry's id
 * @property {number} [target] what the headline's ratio is to reach
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
    ...metric,
    suffix: `, ${part}${metric.suffix}`,
    of: (/** @type {Sample} */ sample) => {
      const own = sample.parts?.[part];
      return own === undefined ? undefined : metric.of(own);
    },
  }));

// ---- who takes part

/** @type {Readonly<Record<string, string>>} */
const STREAM_CALLS = {
  receive: 'stream.read()',
  send: 'stream.write()',
  both: 'stream.read() and write()',
  echo: 'stream.read() and write()',
};

/** What a peer is called, by the id of its entry. @type {Readonly<Record<string, string>>} */
export const PEER_NAMES = {
  tls: 'node:tls',
  boost: `Boost.Asio ${boostVersion()}`.trim(),
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

/** @param {string} task @param {string} peer @returns {Entry} */
const entryOf = (task, peer) => {
  if (peer === 'boost' || peer === 'python' || peer === 'openssl') {
    return { id: peer, program: peer, task };
  }
  return node(task, peer);
};

/** What a face of ours is called in a case. @param {string} face @param {string} task */
const faceName = (face, task) =>
  ({ stream: STREAM_CALLS[task], duplex: 'stream.toDuplex()', secure: 'secureSocket()' })[face];

/**
 * Our faces against some peers; the drop-in socket against `node:tls` only, whose place it takes.
 *
 * @param {string} name @param {string} task @param {Readonly<Record<string, number | undefined>>} peers
 *   with the target of each
 * @returns {Pick<Work, 'entries' | 'cases'>}
 */
function facesAgainst(name, task, peers) {
  const names = Object.keys(peers);
  const [first = 'tls', ...rest] = names;
  return {
    entries: [
      ...['stream', first, 'duplex', 'secure'].map((peer) => entryOf(task, peer)),
      ...rest.map((peer) => entryOf(task, peer)),
    ],
    cases: names.flatMap((peer) =>
      ['stream', 'duplex', ...(peer === 'tls' ? ['secure'] : [])].map((ours) => ({
        name: `${name}, ${faceName(ours, task)}`,
        ours,
        peer,
        ...target(peers[peer]),
      })),
    ),
  };
}

/** @param {number | undefined} value */
const target = (value) => (value === undefined ? {} : { target: value });

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

/** So long a client's lives keep the compiler at work: 1.2 ms of CPU time for each until then, and 0.9 behind it. */
const LIVES_TO_WARM = 2_400;

/** @param {Sizes} sizes @returns {Work[]} */
export function works({ large, medium, small }) {
  /** @type {Work[]} */
  const list = [];
  // Where a turn is of several transfers, or of processes that start anew, less will do.
  const share = Math.min(large, 256 * MIB);

  // Bulk and messages.
  const transfer = [RATE, CPU_PER_BYTE];
  for (const task of ['receive', 'send', 'both']) {
    const bulk = { receive: 1.0, send: 0.95, both: undefined }[task];
    const name = task === 'both' ? 'both ways at once, 64 KB' : `${task} 64 KB`;
    list.push({
      name,
      group: 'throughput',
      load: {},
      ...inMessages(large, 65_536, 1_000),
      metrics: transfer,
      ...facesAgainst(name, task, {
        tls: bulk,
        boost: task === 'both' ? undefined : 1.3,
        python: undefined,
        tcp: undefined,
        ...(task === 'both' ? {} : { openssl: undefined }),
      }),
    });
    if (task === 'both') continue;
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
        ...facesAgainst(`${task} ${label}`, task, { tls: 1.1 }),
      });
    }
  }

  // A small request and its answer.
  list.push({
    name: 'request and answer, 64 B',
    group: 'latency',
    load: {},
    amount: { total: 10_000, warm: 16_000, size: 64 },
    metrics: [WALL_EACH, CPU_EACH],
    seconds: 2.6,
    ...facesAgainst('request and answer, 64 B', 'echo', {
      tls: 0.95,
      timed: undefined,
      boost: undefined,
      python: undefined,
    }),
  });

  // Whole lives.
  for (const tls of /** @type {const} */ (['1.3', '1.2'])) {
    for (const resume of [false, true]) {
      const name = `whole lives, ${resume ? 'resumed' : 'full'}, TLS ${tls}`;
      const others = resume ? ['boost'] : ['boost', 'python'];
      list.push({
        name,
        group: 'lives',
        load: suite(tls, '128'),
        amount: { total: 400, warm: LIVES_TO_WARM, connections: 8, resume },
        entries: ['stream', 'tls', 'secure', ...others].map((peer) => entryOf('lives', peer)),
        cases: [
          ...['tls', ...others].map((peer) => ({
            name,
            ours: 'stream',
            peer,
            ...target(peer === 'tls' ? 1.0 : undefined),
          })),
          { name: `${name}, secureSocket()`, ours: 'secure', peer: 'tls', target: 1.0 },
        ],
        metrics: [PER_SECOND, CPU_EACH],
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
      entries: ['stream', 'tls', 'secure'].map((face) => node('server-lives', face)),
      cases: [
        { name, ours: 'stream', peer: 'tls', target: 1.0 },
        { name: `${name}, strictServer()`, ours: 'secure', peer: 'tls', target: 1.0 },
      ],
      metrics: [PER_SECOND, CPU_EACH],
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
      entries: [node(task, 'stream'), node(task, 'tls')],
      cases: [{ name, ours: 'stream', peer: 'tls' }],
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
      node('cost-of-shutdown', 'stream'),
      { ...node('cost-of-write', 'stream'), id: 'write' },
      node('cost-of-shutdown', 'tls'),
      { ...node('cost-of-write', 'tls'), id: 'tls-write' },
    ],
    cases: [
      { name: cost, ours: 'stream', peer: 'write', target: 0.95 },
      { name: cost, ours: 'stream', peer: 'tls' },
      { name: 'cost of a write', ours: 'write', peer: 'tls-write' },
    ],
    metrics: byCpu([WALL_EACH, CPU_EACH]),
    seconds: 15,
    runs: 3,
  });

  // Memory. Of a few connections only the JavaScript heap is exact enough to tell.
  list.push({
    name: 'memory per idle connection',
    group: 'memory',
    load: {},
    amount: { total: 0, warm: 0 },
    entries: ['stream', 'tls', 'duplex'].map((face) => node('idle-memory', face)),
    cases: [
      { name: 'memory per idle connection, stream.read()', ours: 'stream', peer: 'tls' },
      { name: 'memory per idle connection, stream.toDuplex()', ours: 'duplex', peer: 'tls' },
    ].map((one) => ({ ...one, target: 1 / 1.1 })),
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
      byCpu([PER_SECOND, CPU_EACH]),
    ],
    [
      'fetch of a large body',
      'fetch-body',
      inMessages(large / 2, 65_536, 600),
      byCpu([RATE, CPU_PER_BYTE]),
    ],
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
        ...facesAgainst(name, task, {
          tls: task === 'receive' ? 1.0 : 0.95,
          openssl: undefined,
        }),
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
      entries: [node('grow', 'stream'), node('grow', 'tls'), node('grow', 'duplex')],
      cases: [
        {
          name: `${connections} connections, stream.read() and write()`,
          ours: 'stream',
          peer: 'tls',
        },
        { name: `${connections} connections, stream.toDuplex()`, ours: 'duplex', peer: 'tls' },
      ],
      metrics: [
        ...ofPart('receive', transfer),
        ...ofPart('send', transfer),
        ...ofPart('echo', [PER_SECOND, CPU_EACH]),
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
      entries: [node('lives', 'stream'), node('lives', 'tls')],
      cases: [{ name: `whole lives, ${connections} at once`, ours: 'stream', peer: 'tls' }],
      metrics: [PER_SECOND, CPU_EACH],
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
