import { verdicts } from '../../support/verdict-run.ts';
import { cases } from './mitm.cases.ts';

verdicts('somebody on the path, without keys', 'mitm', cases);
