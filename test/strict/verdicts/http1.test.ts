import { verdicts } from '../../support/verdict-run.ts';
import { cases } from './http1.cases.ts';

verdicts('HTTP/1 and crafted endings', 'http1', cases);
