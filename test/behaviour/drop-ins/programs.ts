/**
 * Whole programs, for the cases about how a process ends. Each is started with a port on which a
 * server of the case listens, and prints what it sees.
 */
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import type { Pki } from '../../support/core-pki.ts';

type Program = (port: number, pki: Pki) => void;

function open(port: number, pki: Pki): tls.TLSSocket {
  return tls.connect({ port, host: '127.0.0.1', ca: pki.ca, servername: 'localhost' });
}

function say(...what: unknown[]): void {
  console.log(...what);
}

export const programs: Readonly<Record<string, Program>> = {
  'a connection that ends': (port, pki) => {
    const socket = open(port, pki);
    socket.on('data', (data) => say(String(data)));
    socket.on('close', () => say('close'));
  },

  'an idle connection keeps the process': (port, pki) => {
    const socket = open(port, pki);
    socket.on('secureConnect', () => {
      say('secure');
      setTimeout(() => {
        say('still here');
        process.exit(3);
      }, 200).unref();
    });
  },

  'an unreferenced connection does not': (port, pki) => {
    const socket = open(port, pki);
    socket.on('secureConnect', () => {
      say('secure');
      socket.unref();
    });
    process.on('exit', () => say('exit', socket.destroyed));
  },

  'unreferenced while it connects': (port, pki) => {
    open(port, pki).unref();
    process.on('exit', () => say('exit'));
  },

  'unreferenced and referenced again': (port, pki) => {
    const socket = open(port, pki);
    socket.on('secureConnect', () => {
      socket.unref();
      socket.ref();
      setTimeout(() => {
        say('still here');
        socket.end();
      }, 150).unref();
    });
    socket.on('close', () => say('close'));
    socket.resume();
  },

  'a paused connection with data keeps the process': (port, pki) => {
    const socket = open(port, pki);
    socket.pause();
    socket.on('secureConnect', () => {
      setTimeout(() => {
        say('still here');
        process.exit(3);
      }, 200).unref();
    });
  },

  'ended by us': (port, pki) => {
    const socket = open(port, pki);
    socket.on('secureConnect', () => socket.end('bye'));
    socket.resume();
    process.on('exit', () => say('exit', socket.destroyed));
  },

  'ended by us, the peer stays': (port, pki) => {
    const socket = open(port, pki);
    socket.on('secureConnect', () => {
      socket.end('bye');
      setTimeout(() => {
        say('still here', socket.destroyed);
        process.exit(3);
      }, 200).unref();
    });
    socket.resume();
    process.on('exit', () => say('exit', socket.destroyed));
  },

  'destroyed at once': (port, pki) => {
    open(port, pki).destroy();
    process.on('exit', () => say('exit'));
  },

  'destroyed when secure': (port, pki) => {
    const socket = open(port, pki);
    socket.on('secureConnect', () => socket.destroy());
    process.on('exit', () => say('exit'));
  },

  'a timeout set does not keep the process': (port, pki) => {
    const socket = open(port, pki);
    socket.setTimeout(60_000);
    socket.on('secureConnect', () => socket.unref());
    process.on('exit', () => say('exit'));
  },

  'an error that nobody listens for': (port, pki) => {
    tls.connect({ port, host: '127.0.0.1', servername: 'other.example', ca: pki.ca });
  },

  'a refusal that nobody listens for': (port) => {
    tls.connect({ port, host: '127.0.0.1' });
  },

  'a data listener that throws': (port, pki) => {
    open(port, pki).on('data', () => {
      throw new Error('from data');
    });
  },

  'the process exits with data written': (port, pki) => {
    const socket = open(port, pki);
    socket.on('secureConnect', () => {
      socket.write('last words', () => process.exit(0));
    });
  },

  'a truncation that nobody listens for': (port, pki) => {
    const socket = open(port, pki);
    socket.on('data', (data) => {
      say(String(data));
      socket.write('now cut');
    });
    socket.on('end', () => say('end'));
  },

  'an https request': (port, pki) => {
    https.get({ port, host: '127.0.0.1', servername: 'localhost', ca: pki.ca }, (response) => {
      response.on('data', (data) => say(String(data)));
      response.on('end', () => say('end'));
    });
    process.on('exit', () => say('exit'));
  },

  'an https request, kept alive': (port, pki) => {
    const agent = new https.Agent({ keepAlive: true });
    const options = { port, host: '127.0.0.1', servername: 'localhost', ca: pki.ca, agent };
    https.get(options, (response) => {
      response.resume();
      response.on('end', () => say('end'));
    });
    process.on('exit', () => say('exit'));
  },

  'an http2 session that is unreferenced': (port, pki) => {
    const options = { ca: pki.ca, host: '127.0.0.1', servername: 'localhost' };
    const session = http2.connect(`https://localhost:${port}`, options);
    const request = session.request({ ':path': '/' });
    request.resume();
    request.on('end', () => {
      say('end');
      session.unref();
    });
    process.on('exit', () => say('exit'));
  },

  'over a socket that is unreferenced': (port, pki) => {
    const raw = net.connect(port, '127.0.0.1', () => {
      const socket = tls.connect({ socket: raw, ca: pki.ca, servername: 'localhost' });
      socket.on('secureConnect', () => {
        say('secure');
        raw.unref();
      });
    });
    process.on('exit', () => say('exit'));
  },

  'over a socket, unreferenced on the TLS socket': (port, pki) => {
    const raw = net.connect(port, '127.0.0.1', () => {
      const socket = tls.connect({ socket: raw, ca: pki.ca, servername: 'localhost' });
      socket.on('secureConnect', () => {
        say('secure');
        socket.unref();
      });
    });
    process.on('exit', () => say('exit'));
  },

  'top-level await on a connection': (port, pki) => {
    const socket = open(port, pki);
    void (async () => {
      for await (const data of socket) say(String(data));
      say('done');
    })();
  },

  'active resources': (port, pki) => {
    const socket = open(port, pki);
    socket.on('secureConnect', () => {
      const kinds = process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap');
      say('sockets', kinds.length);
      socket.destroy();
    });
  },
};
