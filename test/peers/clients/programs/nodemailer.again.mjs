import { client } from './nodemailer.mjs';

export const again = {
  'a message': client({ secure: true }),
  'a message, `pool: true`': client({ secure: true, pool: true }),
};
