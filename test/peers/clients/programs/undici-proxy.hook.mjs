import { strictConnector } from 'close-notify/undici';

export const hook = (uri) => strictConnector({ proxy: { uri } });
