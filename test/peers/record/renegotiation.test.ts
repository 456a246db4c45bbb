/** Keys that come late, across a renegotiation of TLS 1.2. */
import { expect, test } from 'vitest';
import { connect } from '../../../src/index.ts';
import { HANDSHAKE_TYPE } from '../../../src/record/handshake.ts';
import {
  Capture,
  decode,
  lastAlert,
  messagesOf,
  of,
  type Piece,
  randomNumbers,
  runSeed,
  unreadable,
} from '../../support/cert-capture.ts';
import { serverCa } from '../../support/cert-pki.ts';
import { describeServer, sServer } from '../../support/cert-servers.ts';
import { clean, until } from '../../support/core-scope.ts';
import { only } from '../../support/core-streams.ts';

describeServer('openssl', 'renegotiations', () => {
  test.each([1, 2])('%d of them', (rounds) =>
    clean(async (scope) => {
      const { port, process } = await sServer(scope, ['-tls1_2']);
      const capture = new Capture();
      const stream = await connect({
        ...{ host: 'localhost', port, ca: serverCa().pem, record: capture },
        ...only('TLSv1.2'),
      });
      await process.until((output) => /^CIPHER is/m.exec(output));
      const finished = () =>
        messagesOf(decode(capture.pieces), 'server').filter(
          (type) => type === HANDSHAKE_TYPE.finished,
        ).length;
      for (let i = 1; i <= rounds; i++) {
        const reading = stream.read();
        process.send('r');
        await until('renegotiated', () => finished() === i + 1);
        process.send(`after ${i}`);
        expect(Buffer.from((await reading) ?? []).toString()).toBe(`after ${i}\n`);
      }
      await stream.close();

      const whole = decode(capture.pieces);
      expect(unreadable(whole)).toEqual([]);
      const hellos = whole.flatMap((one) =>
        one.type === 'handshake' && one.messageType === HANDSHAKE_TYPE.serverHello
          ? [one.handshake]
          : [],
      );
      expect(hellos).toEqual(Array.from({ length: rounds + 1 }, (_, i) => i));

      const secrets = capture.pieces.filter((one) => 'secret' in one);
      const bytes = capture.pieces.filter((one) => 'bytes' in one) as Piece[];
      const seed = runSeed();
      const random = randomNumbers(seed);
      for (let i = 0; i < 60; i++) {
        // All at the end at first, then anywhere behind where they were.
        const late = [...bytes];
        for (const [nth, secret] of secrets.entries()) {
          const from = i === 0 ? late.length : capture.pieces.indexOf(secret) - nth;
          late.splice(from + random(late.length - from + 1), 0, secret);
        }
        const decoded = decode(late);
        for (const sender of ['client', 'server'] as const) {
          expect(of(decoded, sender), `SEED=${seed}, round ${i}`).toEqual(of(whole, sender));
          expect(lastAlert(decoded, sender)).toMatchObject({ authenticated: true });
        }
      }
    })(),
  );
});
