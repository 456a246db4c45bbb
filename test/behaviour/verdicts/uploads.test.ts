import { verdicts } from './run.ts';
import { cases } from './uploads.cases.ts';

verdicts('a write that fails behind an answer', 'uploads', cases);
