// #region
import { secureSocket } from 'close-notify';
import { AbstractConnector } from 'ioredis';

class StrictConnector extends AbstractConnector {
  constructor(options) {
    super(options.disconnectTimeout);
    this.options = options;
  }

  async connect() {
    const { host, port, tls } = this.options;
    this.connecting = true;
    this.stream = secureSocket({ host, port, servername: host, ...tls });
    this.stream.once('error', (error) => {
      this.firstError = error;
    });
    return this.stream;
  }
}

const options = { Connector: StrictConnector, tls: {} }; // new Redis({ host, port, ...options })
// #endregion

export const hook = options;
