import { cases } from './over.cases.ts';
import { compare } from './run.ts';

compare('over a given transport', 'over', cases);
