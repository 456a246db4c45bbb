/** Plain `node:tls` in the place of this package's streams, for `party.mjs`. */
import type { Adapter } from '../../../src/testing/index.ts';
import { nodeTls } from '../../support/node-tls.ts';

export const closeNotifyAdapter = (): Adapter => nodeTls;
