import { request } from 'undici';

export const client = (dispatcher) => async (to) => {
  const url = `https://localhost:${to.port}/${to.body ?? ''}`;
  const response = await request(url, dispatcher && { dispatcher });
  return Buffer.from(await response.body.arrayBuffer());
};

export const exchange = client();
