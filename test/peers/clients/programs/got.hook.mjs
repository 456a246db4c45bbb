// #region
import { StrictAgent } from 'close-notify/https';
import got from 'got';

const strict = got.extend({ agent: { https: new StrictAgent() } });
// #endregion

export const hook = strict;
