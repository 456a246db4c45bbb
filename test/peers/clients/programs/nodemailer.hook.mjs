// #region
import { once } from 'node:events';
import { secureSocket } from 'close-notify';

/** Gives nodemailer a connection that is already secured. */
async function getSocket({ host, port }, callback) {
  const connection = secureSocket({ host, port, servername: host });
  try {
    await once(connection, 'secureConnect');
    callback(null, { connection, secured: true });
  } catch (error) {
    callback(error);
  }
}

const options = { secure: true, getSocket }; // createTransport({ host, port, ...options })
// #endregion

export const hook = options;
