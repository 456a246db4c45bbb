import http2 from 'node:http2';

const ask = (method) => async (to) => {
  const session = http2.connect(`https://localhost:${to.port}`);
  // The stream has the same error.
  session.on('error', () => {});
  try {
    const stream = session.request({ ':path': '/', ':method': method });
    stream.end(method === 'POST' ? 'text' : undefined);
    return Buffer.concat(await stream.toArray());
  } finally {
    session.destroy();
  }
};

export const again = { GET: ask('GET'), POST: ask('POST') };
