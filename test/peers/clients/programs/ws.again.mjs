import { exchange } from './ws.mjs';

export const again = { 'a connection': exchange };
