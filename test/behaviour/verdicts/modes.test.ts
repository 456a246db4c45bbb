import { cases } from './modes.cases.ts';
import { verdicts } from './run.ts';

verdicts('report against error mode', 'modes', cases);
