import { cases } from './ending.cases.ts';
import { compare } from './run.ts';

compare('ending', 'ending', cases);
