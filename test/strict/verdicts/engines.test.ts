import { verdicts } from '../../support/verdict-run.ts';
import { cases } from './engines.cases.ts';

verdicts('what could displace a witness', 'engines', cases);
