import { cases } from './engines.cases.ts';
import { verdicts } from './run.ts';

verdicts('what could displace a witness', 'engines', cases);
