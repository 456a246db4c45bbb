import { client } from './nodemailer.mjs';

export const exchange = client({ secure: false, requireTLS: true });
