// #region
import { secureSocket } from 'close-notify';
import { MqttClient } from 'mqtt';

const connect = (host, port, options) =>
  new MqttClient(() => secureSocket({ host, port, servername: host }), options);
// #endregion

export const hook = ({ port }, options) => connect('localhost', port, options);
