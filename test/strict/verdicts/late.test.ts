import { verdicts } from '../../support/verdict-run.ts';
import { cases } from './late.cases.ts';

verdicts('what comes before anybody watches', 'late', cases);
