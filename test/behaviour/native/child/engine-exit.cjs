'use strict';
// The process ends with open connections, as argv[2] says: by process.exit, by an exception that nobody catches, within
// an event, or because nothing keeps it alive any more.

const { until } = require('./lib.cjs');
const { onSockets, pair } = require('./engine-lib.cjs');

async function body(way) {
  pair();
  pair({ begun: false });
  const [client, server] = await onSockets();
  if (way === 'within an event') {
    server.onFact = () => {
      console.log(JSON.stringify(way));
      process.exit(0);
    };
  }
  client.start();
  server.start();
  await until(() => client.has('secure') && server.has('secure'));
  client.connection.setReading(false);
  server.write(Buffer.alloc(1 << 24));
  console.log(JSON.stringify(way));
  if (way === 'process.exit') process.exit(0);
  if (way === 'an exception') {
    process.on('exit', () => {
      process.exitCode = 0;
    });
    process.on('uncaughtException', () => process.exit(0));
    throw new Error('of the program');
  }
  // Nothing keeps it alive.
  for (const end of [client, server]) {
    end.connection.setReference(false);
    end.socket.unref();
  }
}

body(process.argv[2]).catch((error) => {
  if (process.argv[2] !== 'an exception') throw error;
  setImmediate(() => {
    throw error;
  });
});
