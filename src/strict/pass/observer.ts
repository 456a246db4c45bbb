/** Who is shown the bytes that pass. */
export interface PassObserver {
  /**
   * Bytes that the transport has received.
   *
   * @returns after how many of these bytes the first record ends; all of them where none does.
   */
  onReceived(bytes: Uint8Array): number;
  /**
   * TLS has been given those bytes.
   *
   * @param data how many bytes of application data it gave for them.
   */
  onGiven(data: number): void;
  /** Bytes that are about to be written to the transport. */
  onSending(bytes: Uint8Array): void;
  /** The transport has taken this many bytes, counted from the first. */
  onSent(total: number): void;
  /** Whether TLS has sent the last that it had to say. */
  readonly saidLast: boolean;
  /** The connection is over. */
  onClose(): void;
}
