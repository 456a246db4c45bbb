// #region
import axios from 'axios';
import { StrictAgent } from 'close-notify/https';

const strict = axios.create({ httpsAgent: new StrictAgent() });
// #endregion

export const hook = strict;
