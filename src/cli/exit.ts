/** Exit codes of the command. */
export const EXIT = {
  /** The connection ended as it should; or the demo found what it expected. */
  ok: 0,
  /** Any other verdict. */
  notSecure: 1,
  /** Wrong usage, or a file that cannot be used. */
  usage: 2,
  /** There was no handshake, so there is no ending to judge. */
  noHandshake: 3,
  /** Interrupted: 128 and the number of SIGINT, as shells have it. */
  interrupted: 130,
  /** Nobody reads our output any more: 128 and the number of SIGPIPE. */
  brokenPipe: 141,
} as const;
