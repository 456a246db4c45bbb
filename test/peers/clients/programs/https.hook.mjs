// #region
import { StrictAgent } from 'close-notify/https';

const agent = new StrictAgent(); // https.get(url, { agent }, onResponse)
// #endregion

export const hook = { agent };
