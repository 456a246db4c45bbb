import { strictConnector } from 'close-notify/undici';

export const hook = strictConnector({ allowH2: true });
