// #region
import axios from 'axios';
import { isTruncated } from 'close-notify';

const twice = axios.create();
twice.interceptors.response.use(undefined, (error) => {
  const { config, request } = error;
  // This property of Node's ClientRequest is its response.
  if (config?.method !== 'get' || !isTruncated(request?.res?.errored)) throw error;
  // By another instance, so that it happens once.
  return axios.request(config);
});
// #endregion

const ask = (instance, method) => async (to) => {
  const { data } = await instance.request({
    url: `https://localhost:${to.port}/${to.body}`,
    method,
    ...(method === 'POST' && { data: 'text' }),
    responseType: 'arraybuffer',
    proxy: false,
  });
  return data;
};

export const again = {
  GET: ask(axios, 'GET'),
  POST: ask(axios, 'POST'),
  'POST, before its headers': ask(axios, 'POST'),
  'GET by the instance below': ask(twice, 'GET'),
  'POST by the instance below': ask(twice, 'POST'),
};

export const reason = {
  place: '`isTruncated(error.request?.res?.errored)`',
  of: (error) => error.request?.res?.errored,
};
