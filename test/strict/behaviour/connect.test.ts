import { compare } from '../../support/behaviour-run.ts';
import { cases } from './connect.cases.ts';

compare('connecting', 'connect', cases);
