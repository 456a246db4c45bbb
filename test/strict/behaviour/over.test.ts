import { compare } from '../../support/behaviour-run.ts';
import { cases } from './over.cases.ts';

compare('over a given transport', 'over', cases);
