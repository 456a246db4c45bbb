import { cases } from './process.cases.ts';
import { compare } from './run.ts';

compare('the process around it', 'process', cases);
