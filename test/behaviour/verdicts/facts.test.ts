import { cases } from './facts.cases.ts';
import { verdicts } from './run.ts';

verdicts('what a closure says', 'facts', cases);
