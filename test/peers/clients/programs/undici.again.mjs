// #region
import { strictConnector } from 'close-notify/undici';
import { Agent, RetryAgent, request } from 'undici';

// The list takes the place of undici's own.
const errorCodes = ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET', 'ERR_TLS_TRUNCATED'];
const dispatcher = new RetryAgent(new Agent({ connect: strictConnector() }), { errorCodes });
// #endregion

const ask = (options) => async (to) => {
  const response = await request(`https://localhost:${to.port}/length`, options);
  return Buffer.from(await response.body.arrayBuffer());
};
const post = { method: 'POST', body: 'text' };

export const again = {
  GET: ask({}),
  POST: ask(post),
  'POST, before its headers': ask(post),
  'GET by a `RetryAgent`': ask({ dispatcher: new RetryAgent(new Agent()) }),
  'GET by the `RetryAgent` below': ask({ dispatcher }),
  'POST by the `RetryAgent` below': ask({ ...post, dispatcher }),
};
