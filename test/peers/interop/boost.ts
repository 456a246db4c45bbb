/** The Boost.Asio party, compiled. */
import { fileURLToPath } from 'node:url';
import { compile } from '../../../prove/peers/compile.ts';
import { boostVersions } from '../../support/interop-peers.ts';

const SOURCE = fileURLToPath(new URL('./boost/party.cpp', import.meta.url));
let compiled: Promise<string> | undefined;

/** The program's path. The first call in a test file may compile it, which takes some seconds. */
export function boostParty(): Promise<string> {
  compiled ??= compile(SOURCE, boostVersions ?? '');
  return compiled;
}
