/** Gathers the bytes of a message of known length that arrives in pieces. */
export class Collector {
  /** The bytes, from the start, that have come; more behind them mean nothing. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  #length = 0;

  /** @param capacityBytes the longest message */
  constructor(capacityBytes: number) {
    this.bytes = new Uint8Array(capacityBytes);
    this.view = new DataView(this.bytes.buffer);
  }

  get length(): number {
    return this.#length;
  }

  /** Begins the next message. */
  clear(): void {
    this.#length = 0;
  }

  /** Takes what is missing to `needed` bytes from `source`, as far as it goes. @returns how many bytes it took */
  take(source: Uint8Array, at: number, needed: number): number {
    const count = Math.min(needed - this.#length, source.length - at);
    if (count <= 0) return 0;
    this.bytes.set(source.subarray(at, at + count), this.#length);
    this.#length += count;
    return count;
  }
}
