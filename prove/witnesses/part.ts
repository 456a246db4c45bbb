/**
 * The two witnesses against each other: OpenSSL's word, which the add-on hears, and the records, which the portable
 * way reads. Both watch the very same connection.
 *
 * Theory of operation. The portable way puts Node's TLS on a pass (src/strict/pass/pass.ts) and reads what goes by. The
 * add-on watches any SSL of Node's, that one as well. So one conversation has two witnesses, which know nothing of each
 * other: neither another run, nor another schedule is between them. A crafted peer plays each ending of the catalogue,
 * to clients and servers, in both versions, while the program does nothing, or writes, or ends its side at the first
 * data. Then the two are asked: which alert ended each direction (level, description, whether it was authenticated),
 * whether it has left, what OpenSSL is known to ignore, where the bytes ended, and what the verdict is. Where they do
 * not say the same, that is a disagreement.
 *
 * What OpenSSL was not there to see is no disagreement of the two: a record that it refuses stops both.
 */
import { inShards, nodesFor, type Part } from '../harness.ts';

export const part: Part = {
  name: 'witnesses',
  title: 'The add-on and the records, on the same connections',
  seconds: 300,
  async run(context) {
    const { nodes, missing: figures } = nodesFor(context, 'MATRIX_NODE', 'conversations');
    for (const [major, node] of nodes) {
      const url = new URL('work.ts', import.meta.url);
      const env = { CLOSE_NOTIFY_REQUIRE_NATIVE: '1' };
      const { counts = {} } = await inShards(url, context, { node, env });
      const count = (name: string) => counts[name] ?? 0;
      const least = context.short ? 100 : 1_000;
      figures.push(
        { name: `Node ${major}: conversations`, value: count('conversations'), least },
        { name: `Node ${major}: alerts received`, value: count('received'), least: least / 4 },
        { name: `Node ${major}: alerts sent`, value: count('sent'), least: least / 4 },
        { name: `Node ${major}: directions that no alert ended`, value: count('none'), least: 10 },
        { name: `Node ${major}: places where the bytes ended`, value: count('places'), least: 10 },
        { name: `Node ${major}: disagreements`, value: count('disagreements'), must: 0 },
      );
    }
    return figures;
  },
};
