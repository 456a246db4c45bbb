import axios from 'axios';

export const client = (instance) => async (to) => {
  const url = `https://localhost:${to.port}/${to.body}`;
  const { data } = await instance.get(url, { responseType: 'arraybuffer', proxy: false });
  return data;
};

export const exchange = client(axios);
