import { verdicts } from '../../support/verdict-run.ts';
import { cases } from './http2.cases.ts';

verdicts('HTTP/2, undici and curl', 'http2', cases);
