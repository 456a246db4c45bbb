import mqtt from 'mqtt';

/** Subscribes, takes the message that the broker keeps for the topic, and leaves. */
export const client = (connect) => (to) =>
  new Promise((resolve, reject) => {
    const client = connect(to, { reconnectPeriod: 0, clean: true });
    let lost;
    client.on('error', (error) => {
      lost ??= error;
    });
    client.on('connect', () => client.subscribe('text'));
    client.on('message', (_topic, payload) => {
      client.end();
      resolve(payload);
    });
    client.on('close', () => reject(lost ?? new Error('closed')));
  });

export const exchange = client(({ port }, options) =>
  mqtt.connect({ protocol: 'mqtts', host: 'localhost', port, ...options }),
);
