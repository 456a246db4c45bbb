import { compare } from '../../support/behaviour-run.ts';
import { cases } from './https.cases.ts';

compare('https', 'https', cases);
