// #region
import { isTruncated } from 'close-notify';
import got from 'got';

const once = got.extend({
  retry: {
    // 0 is: not again.
    calculateDelay: ({ error, computedValue }) =>
      isTruncated(error.response?.errored) ? 0 : computedValue,
  },
});
// #endregion

const url = (to) => `https://localhost:${to.port}/${to.body}`;

const post = (to) => got.post(url(to), { body: 'text' }).buffer();

export const again = {
  GET: (to) => got(url(to)).buffer(),
  POST: post,
  'POST, before its headers': post,
  'GET by the instance below': (to) => once(url(to)).buffer(),
};

export const reason = {
  place: '`isTruncated(error.response?.errored)`',
  of: (error) => error.response?.errored,
};
