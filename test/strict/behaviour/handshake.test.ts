import { compare } from '../../support/behaviour-run.ts';
import { cases } from './handshake.cases.ts';

compare('the handshake', 'handshake', cases);
