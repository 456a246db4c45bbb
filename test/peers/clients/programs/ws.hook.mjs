// #region
import { StrictAgent } from 'close-notify/https';

const agent = new StrictAgent(); // new WebSocket(url, { agent })
// #endregion

export const hook = { agent };
