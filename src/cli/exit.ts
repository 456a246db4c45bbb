/** Exit codes of the command. */
export const EXIT = {
  /** It ended as it should; or a certificate was asked for; or the demo came out as expected. */
  ok: 0,
  /** Any other verdict. */
  notSecure: 1,
  /** No certificate was asked for, or none of those given is usable. */
  noMatch: 1,
  /** Wrong usage, or a file that cannot be used. */
  usage: 2,
  /** There was no handshake, so there is no ending to judge. */
  noHandshake: 3,
  /** Interrupted: 128 and the number of SIGINT, as shells have it. */
  interrupted: 130,
  /** Nobody reads our output any more: 128 and the number of SIGPIPE. */
  brokenPipe: 141,
} as const;
