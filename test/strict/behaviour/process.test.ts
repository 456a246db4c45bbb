import { compare } from '../../support/behaviour-run.ts';
import { cases } from './process.cases.ts';

compare('the process around it', 'process', cases);
