import { cases } from './https.cases.ts';
import { compare } from './run.ts';

compare('https', 'https', cases);
