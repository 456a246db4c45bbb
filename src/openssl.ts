/** What OpenSSL says, in words for a person. */

/**
 * OpenSSL's own line for an error: `THREAD:error:CODE:LIBRARY:FUNCTION:REASON:FILE:LINE:DATA`, of which Node may leave
 * out the first and the last three.
 */
const LINE =
  /(?:[0-9A-F]{8,16}:)?error:[0-9A-F]{8}:[^:\n]*:[^:\n]*:([^:\n]*)(?::[^:\n]*:\d+:([^\n]*))?/gi;

/** The reasons in a message, without what only OpenSSL's makers can use; on one line. */
export function plainReason(message: string): string {
  const lines = message
    .replaceAll(LINE, (_, reason: string, data = '') => {
      // Some failures leave no reason behind.
      const said = /^reason\(\d+\)$/.test(reason) ? 'OpenSSL gives no reason' : reason;
      return data.trim() === '' ? said : `${said} (${data.trim()})`;
    })
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  return [...new Set(lines)].join('; ');
}
