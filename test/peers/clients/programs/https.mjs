import https from 'node:https';

export const client = (options) => (to) =>
  new Promise((resolve, reject) => {
    const request = https.get(`https://localhost:${to.port}/${to.body}`, options, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve(Buffer.concat(chunks)));
      response.on('error', reject);
    });
    request.on('error', reject);
  });

export const exchange = client({});
