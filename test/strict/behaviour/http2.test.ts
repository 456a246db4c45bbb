import { compare } from '../../support/behaviour-run.ts';
import { cases } from './http2.cases.ts';

compare('http2 and fetch', 'http2', cases);
