// #region
import { strictConnector } from 'close-notify/undici';
import { Agent } from 'undici';

const dispatcher = new Agent({ connect: strictConnector() }); // request(url, { dispatcher })
// #endregion

export const hook = dispatcher;
