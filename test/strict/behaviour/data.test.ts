import { compare } from '../../support/behaviour-run.ts';
import { cases } from './data.cases.ts';

compare('data', 'data', cases);
