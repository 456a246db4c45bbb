import { cases } from './mitm.cases.ts';
import { verdicts } from './run.ts';

verdicts('somebody on the path, without keys', 'mitm', cases);
