import { verdicts } from '../../support/verdict-run.ts';
import { cases } from './facts.cases.ts';

verdicts('what a closure says', 'facts', cases);
