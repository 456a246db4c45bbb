import { Redis } from 'ioredis';

/** The last error of each client's 'error' event, by what its command gave. */
const events = new WeakMap();

const get = (options) => async (to) => {
  const redis = new Redis({ host: 'localhost', port: to.port, tls: {}, ...options });
  let lost;
  redis.on('error', (error) => {
    lost = error;
  });
  try {
    const value = await redis.getBuffer('text');
    await redis.quit();
    return value;
  } catch (error) {
    events.set(error, lost);
    throw error;
  } finally {
    redis.disconnect();
  }
};

export const again = {
  GET: get({}),
  'GET, `maxRetriesPerRequest: 0`': get({ maxRetriesPerRequest: 0 }),
};

export const reason = {
  place: "`isTruncated` of the 'error' event",
  of: (error) => events.get(error),
};

/** The server counts its commands. */
export const seen = async (to) => {
  const redis = new Redis({ host: 'localhost', port: to.port, tls: {} });
  try {
    const [, calls = 0] = /^cmdstat_get:calls=(\d+)/m.exec(await redis.info('commandstats')) ?? [];
    return Number(calls);
  } finally {
    redis.disconnect();
  }
};
