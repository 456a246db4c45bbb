import { cases } from './connect.cases.ts';
import { compare } from './run.ts';

compare('connecting', 'connect', cases);
