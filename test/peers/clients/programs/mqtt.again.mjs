import mqtt from 'mqtt';

const publish = (qos, options) => async (to) => {
  const client = mqtt.connect({
    protocol: 'mqtts',
    host: 'localhost',
    port: to.port,
    // By default a second.
    reconnectPeriod: 1,
    clientId: `client-${to.port}`,
    ...options,
  });
  let lost;
  client.on('error', (error) => {
    lost = error;
  });
  const over = new Promise((_, reject) => {
    client.on('close', () => {
      if (options?.reconnectPeriod === 0) reject(lost);
    });
  });
  try {
    await Promise.race([client.publishAsync('other', 'text', { qos }), over]);
    return Buffer.from('published');
  } finally {
    over.catch(() => {});
    await client.endAsync(true);
  }
};

export const again = {
  'a message, QoS 1': publish(1),
  'a message, QoS 1, `reconnectPeriod: 0`': publish(1, { reconnectPeriod: 0 }),
  'a message, QoS 2': publish(2),
  'a message, QoS 2, `clean: false`': publish(2, { clean: false }),
};
