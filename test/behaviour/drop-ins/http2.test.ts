import { cases } from './http2.cases.ts';
import { compare } from './run.ts';

compare('http2 and fetch', 'http2', cases);
