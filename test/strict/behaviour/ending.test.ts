import { compare } from '../../support/behaviour-run.ts';
import { cases } from './ending.cases.ts';

compare('ending', 'ending', cases);
