import { COUNTS, cases } from './endings.cases.ts';
import { verdicts } from './run.ts';

verdicts(`crafted endings (${COUNTS})`, 'endings', cases);
