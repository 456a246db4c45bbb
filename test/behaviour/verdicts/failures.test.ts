import { cases } from './failures.cases.ts';
import { verdicts } from './run.ts';

verdicts("failures that are not the peer's", 'failures', cases);
