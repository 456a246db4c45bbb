import { createTransport } from 'nodemailer';

/** The server answers with how many bytes it took. */
export const client = (options) => async (to) => {
  const transport = createTransport({ host: 'localhost', port: to.port, ...options });
  const { response } = await transport.sendMail({
    from: 'sender@localhost',
    to: 'receiver@localhost',
    messageId: '<1@localhost>',
    date: new Date(0),
    subject: 'Hello',
    text: 'Pay $100 to Alice, not to anybody else.\r\n'.repeat(500),
  });
  return Buffer.from(response);
};

export const exchange = client({ secure: true });
