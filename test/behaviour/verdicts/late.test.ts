import { cases } from './late.cases.ts';
import { verdicts } from './run.ts';

verdicts('what comes before anybody watches', 'late', cases);
