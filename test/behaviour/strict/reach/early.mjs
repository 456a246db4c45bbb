/**
 * What a program took out of Node's modules before it loaded anything else: by names that ES modules go on looking up
 * (`named`), and for good (`taken`).
 */
import { execFile, fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { connect } from 'node:tls';
import { Worker } from 'node:worker_threads';

const require = createRequire(import.meta.url);

export const named = {
  connect: (...args) => connect(...args),
  worker: (...args) => new Worker(...args),
  fork: (...args) => fork(...args),
  execFile: (...args) => execFile(...args),
};

export const taken = {
  connect: require('node:tls').connect,
  Worker: require('node:worker_threads').Worker,
  fork: require('node:child_process').fork,
  execFile: require('node:child_process').execFile,
};
