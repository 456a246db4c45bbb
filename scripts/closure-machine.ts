/**
 * The page docs/closure-machine.md: a hand-written introduction, and pictures made from the tables.
 * `UPDATE_DOCS=1 npx vitest run test/unit/closure/diagram.test.ts` writes it.
 */
import { PARTS, type Part, toMermaid, toTable, verdictTable } from '../src/closure/diagram.ts';

const ABOUT: Readonly<Record<Part, { readonly title: string; readonly text: string }>> = {
  send: {
    title: 'The sending direction',
    text: `What has become of our right to write. It ends properly in \`closed\`: our close_notify was
handed to the transport. EOF from the peer does not end it, because each party closes its own
direction: "Each party MUST send a close_notify alert before closing its write side of the
connection" (RFC 9846 section 6.1).`,
  },
  receive: {
    title: 'The receiving direction',
    text: `What has become of the peer's bytes. They are complete only in \`closed\`, and the only way
there is a close_notify that arrives while \`open\`, so that it is authenticated. Every other end of
this direction is final: nothing that comes later makes up for it.`,
  },
  caller: {
    title: 'The caller',
    text: `Whether the local party waits for the peer's close_notify, chose not to, ran out of time, or
cancelled. This says why a direction was left unfinished, never that it was finished.`,
  },
};

/** The whole page. */
export function closureMachinePage(): string {
  const parts = PARTS.map((part) => {
    const { title, text } = ABOUT[part];
    return `## ${title}

${text}

\`\`\`mermaid
${toMermaid(part)}
\`\`\`

${toTable(part)}
`;
  });
  return `<!-- Made from the tables in src/closure/machine.ts by scripts/closure-machine.ts. Do not edit;
     \`UPDATE_DOCS=1 npx vitest run test/unit/closure/diagram.test.ts\` writes it again. -->

# The closure machine

How a TLS connection ends is kept in three small states, each moved by the same events: one for what
we send, one for what we receive, one for what the caller wants. The tables below are total: for each
state and each event they say what comes next. In them a dot stands for "stays as it is"; the
pictures leave those out, and join events with the same ends into one arrow.

Sources: RFC 9846 (TLS 1.3) section 6.1 and RFC 5246 (TLS 1.2) section 7.2.1. In the words of both,
"the client and the server must share knowledge that the connection is ending in order to avoid a
truncation attack". EOF and reset of the transport share no such knowledge: anyone can cause them.

${parts.join('\n')}
## The verdict

The verdict is computed from the three states whenever someone asks, and stored nowhere. It begins at
\`open\`, and what the peer sent decides first: a received close_notify, a truncation or an alert is
what happened, whatever the caller did. Only where the peer's end is unknown does the caller's part
give the reason. \`secure\` takes both close_notify, and nothing else.

This is every combination of states, also those that no connection reaches, with equal ones folded.

${verdictTable()}
`;
}
