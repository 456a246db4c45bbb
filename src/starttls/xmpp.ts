/** XMPP, client to server: STARTTLS, RFC 6120 section 5. */
import type { Dialogue } from './dialogue.ts';
import { XmlReader } from './xml.ts';

const STREAMS = 'http://etherx.jabber.org/streams';
const TLS = 'urn:ietf:params:xml:ns:xmpp-tls';

/** Stream header, features, `<starttls/>`, and the server's `<proceed/>`. */
export async function xmpp(dialogue: Dialogue): Promise<void> {
  const xml = new XmlReader(dialogue);
  dialogue.write(
    `<?xml version='1.0'?><stream:stream to='${escapeXml(dialogue.host)}' version='1.0' ` +
      `xmlns='jabber:client' xmlns:stream='${STREAMS}'>`,
  );
  const header = await xml.open('XMPP stream header');
  if (!header.is(STREAMS, 'stream')) throw dialogue.unexpected('XMPP stream header', header.raw);
  // Without a version there are no stream features to wait for (section 4.7.5).
  if (header.version === null) throw dialogue.notOffered(header.raw);

  const features = await xml.element('stream features');
  // A stream error: host-unknown, for instance (section 4.9.3.6).
  if (features.is(STREAMS, 'error')) throw dialogue.refused('the stream', features.raw);
  if (!features.is(STREAMS, 'features')) throw dialogue.unexpected('stream features', features.raw);
  if (!features.children.some((child) => child.is(TLS, 'starttls'))) {
    throw dialogue.notOffered(features.raw);
  }

  dialogue.write(`<starttls xmlns='${TLS}'/>`);
  const answer = await xml.element('answer to starttls');
  // `<failure/>` (section 5.4.2.2), or an error that ends the stream.
  if (!answer.is(TLS, 'proceed')) throw dialogue.refused('starttls', answer.raw);
}

function escapeXml(text: string): string {
  return text.replace(/[<>&'"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
