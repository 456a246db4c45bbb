import { client } from './fetch.mjs';

const post = client({ method: 'POST', body: 'text' });

export const again = {
  GET: client({}),
  POST: post,
  'POST, before its headers': post,
};
