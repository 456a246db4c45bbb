'use strict';
// Two users of one binding, each with a function that is told what OpenSSL ignored; the first throws.

const { crafted, load, main, turn, until } = require('./lib.cjs');

const native = load();

main(async () => {
  const uncaught = [];
  process.on('uncaughtException', (error) => uncaught.push(error.message));
  let told = 0;
  const mine = () => {
    told++;
    throw new Error('of mine');
  };
  native.watch(mine);
  native.watch(mine);
  native.watch(() => told++);
  const { relay, sealer, socket, peer } = await crafted(native);
  // 3.0 ignores this one as well.
  relay.far.write(Buffer.concat([sealer.alert(1, 90), sealer.alert(2, 0)]));
  await until(() => told > 0);
  await turn();
  socket.destroy();
  peer.destroy();
  return { told, uncaught };
});
