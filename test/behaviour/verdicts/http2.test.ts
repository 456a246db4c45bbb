import { cases } from './http2.cases.ts';
import { verdicts } from './run.ts';

verdicts('HTTP/2, undici and curl', 'http2', cases);
