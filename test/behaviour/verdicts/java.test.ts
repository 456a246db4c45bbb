import { afterAll, describe, it } from 'vitest';
import { hasJdk, startJsse } from '../../support/jsse.ts';
import { cases } from './java.cases.ts';
import { verdicts } from './run.ts';

// Java is no peer that .ci/run installs: `npm run prove` has room for it.
if (hasJdk()) {
  let stop = () => {};
  afterAll(() => stop());
  verdicts('JSSE', 'java', cases, async () => {
    const started = await startJsse();
    stop = started.stop;
    return { VERDICTS_JAVA: String(started.port) };
  });
} else {
  describe.skip('JSSE (skipped: no JDK)', () => it('runs', () => {}));
}
