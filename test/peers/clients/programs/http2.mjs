import http2 from 'node:http2';

export const client = (connect) => (to) =>
  new Promise((resolve, reject) => {
    const session = connect(to);
    session.on('error', reject);
    const stream = session.request({ ':path': '/' });
    const chunks = [];
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('error', reject);
    // Node also emits 'end' for a stream whose connection has gone.
    stream.on('aborted', () => reject(new Error('aborted')));
    stream.on('end', () => {
      if (!stream.aborted) resolve(Buffer.concat(chunks));
      session.close();
    });
    stream.on('close', () => reject(new Error('closed before its end')));
  });

export const exchange = client(({ port }) => http2.connect(`https://localhost:${port}`));
