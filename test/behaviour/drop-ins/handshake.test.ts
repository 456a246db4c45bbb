import { cases } from './handshake.cases.ts';
import { compare } from './run.ts';

compare('the handshake', 'handshake', cases);
