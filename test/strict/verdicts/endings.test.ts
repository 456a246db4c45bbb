import { verdicts } from '../../support/verdict-run.ts';
import { COUNTS, cases } from './endings.cases.ts';

verdicts(`crafted endings (${COUNTS})`, 'endings', cases);
