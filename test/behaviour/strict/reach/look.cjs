/** Connects to a server that is cut, and tells what a program sees: 'strict' for our error, 'end' as from Node. */

const how = (readable) =>
  new Promise((resolve) => {
    readable.on('end', () => resolve('end'));
    readable.on('error', (error) =>
      resolve(error.code === 'ERR_TLS_TRUNCATED' ? 'strict' : String(error.code)),
    );
    readable.resume();
  });

/** @param connect by default what `node:tls` has by that name now. */
exports.look = (port, connect = require('node:tls').connect) => {
  const socket = connect({ host: 'localhost', port, rejectUnauthorized: false });
  socket.on('secureConnect', () => socket.write('GET / HTTP/1.1\r\n\r\n'));
  return how(socket);
};

exports.how = how;
