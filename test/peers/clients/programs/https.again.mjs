import https from 'node:https';

const ask = (method) => (to) =>
  new Promise((resolve, reject) => {
    const request = https.request(`https://localhost:${to.port}/${to.body}`, { method });
    request.on('response', async (response) => {
      try {
        resolve(Buffer.concat(await response.toArray()));
      } catch (error) {
        reject(error);
      }
    });
    request.on('error', reject);
    request.end(method === 'POST' ? 'text' : undefined);
  });

export const again = {
  GET: ask('GET'),
  POST: ask('POST'),
  'POST, before its headers': ask('POST'),
};
