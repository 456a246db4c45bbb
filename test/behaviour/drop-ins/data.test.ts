import { cases } from './data.cases.ts';
import { compare } from './run.ts';

compare('data', 'data', cases);
