import { verdicts } from '../../support/verdict-run.ts';
import { cases } from './failures.cases.ts';

verdicts("failures that are not the peer's", 'failures', cases);
