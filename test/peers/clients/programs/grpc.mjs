import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';

const identity = (bytes) => bytes;
const Service = grpc.makeGenericClientConstructor(
  {
    Text: {
      path: '/test.Texts/Text',
      requestStream: false,
      responseStream: true,
      requestSerialize: identity,
      requestDeserialize: identity,
      responseSerialize: identity,
      responseDeserialize: identity,
    },
  },
  'Texts',
);
const credentials = grpc.credentials.createSsl(
  readFileSync(process.env['NODE_EXTRA_CA_CERTS'] ?? ''),
);

export const client =
  (options) =>
  ({ port }) =>
    new Promise((resolve, reject) => {
      const client = new Service(`127.0.0.1:${port}`, credentials, options);
      const call = client.Text(Buffer.alloc(0), { deadline: Date.now() + 10_000 });
      const messages = [];
      call.on('data', (message) => messages.push(message));
      call.on('end', () => {});
      call.on('error', (error) => {
        client.close();
        reject(error);
      });
      call.on('status', ({ code }) => {
        client.close();
        if (code === 0) resolve(Buffer.concat(messages));
      });
    });

export const exchange = client({});
