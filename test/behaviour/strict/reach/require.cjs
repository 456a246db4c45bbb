import('./early.mjs').then(() => {
  require('close-notify/register');
  return import('./program.mjs');
});
