import { cases } from './http1.cases.ts';
import { verdicts } from './run.ts';

verdicts('HTTP/1 and crafted endings', 'http1', cases);
