// #region
import http2 from 'node:http2';
import { secureSocket } from 'close-notify';

const connect = (host, port) =>
  http2.connect(`https://${host}:${port}`, {
    createConnection: () => secureSocket({ host, port, servername: host, ALPNProtocols: ['h2'] }),
  });
// #endregion

export const hook = ({ port }) => connect('localhost', port);
