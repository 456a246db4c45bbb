import WebSocket from 'ws';

/** Takes messages until the connection closes: all came if that was with a closing handshake. */
export const client = (options) => (to) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://localhost:${to.port}/`, options);
    const messages = [];
    let failure;
    socket.on('message', (data) => messages.push(data));
    socket.on('error', (error) => {
      failure = error;
    });
    socket.on('close', (code) => {
      if (failure !== undefined) reject(failure);
      else if (code === 1000) resolve(Buffer.concat(messages));
      else reject(Object.assign(new Error(`closed with ${code}`), { code }));
    });
  });

export const exchange = client({});
