import { Redis } from 'ioredis';

/** A lost connection is not opened again here, so that what was lost is told. */
const ONCE = { retryStrategy: null, maxRetriesPerRequest: 0, enableReadyCheck: false };

export const client = (options) => async (to) => {
  const redis = new Redis({ host: 'localhost', port: to.port, ...ONCE, ...options });
  let lost;
  redis.on('error', (error) => {
    lost ??= error;
  });
  try {
    const value = await redis.getBuffer('text');
    await redis.quit();
    return value;
  } catch (error) {
    // A command's own error says that the connection is closed; 'error' says why.
    throw lost === undefined ? error : new Error(error.message, { cause: lost });
  } finally {
    redis.disconnect();
  }
};

export const exchange = client({ tls: {} });
