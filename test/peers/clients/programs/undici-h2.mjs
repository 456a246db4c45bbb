import { Agent } from 'undici';
import { client as one } from './undici.mjs';

// A dispatcher for each exchange: one that keeps an HTTP/2 session belongs to one server.
export const client = (connector) => async (to) => {
  const dispatcher = new Agent({ allowH2: true, ...(connector && { connect: connector }) });
  try {
    return await one(dispatcher)(to);
  } finally {
    await dispatcher.destroy();
  }
};

export const exchange = client();
