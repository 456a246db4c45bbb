import got from 'got';

export const client = (instance) => (to) =>
  instance(`https://localhost:${to.port}/${to.body}`, { retry: { limit: 0 } }).buffer();

export const exchange = client(got);
