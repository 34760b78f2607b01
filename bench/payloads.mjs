/** A row of payloads that don't compress, each different from the one before, without an allocation each. */
export class Payloads {
  #counter = 0;
  #bytes;
  #view;

  /** @param {number} payloadBytes at least 4 */
  constructor(payloadBytes) {
    this.#bytes = new Uint8Array(payloadBytes);
    this.#view = new DataView(this.#bytes.buffer);
    let state = 1;
    for (let i = 0; i < payloadBytes; i++) {
      // Numerical Recipes' linear congruential generator; its high byte is good enough to be incompressible.
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      this.#bytes[i] = state >>> 24;
    }
  }

  /** The next payload: the same buffer each time. */
  next() {
    this.#view.setUint32(0, ++this.#counter, true);
    return this.#bytes;
  }

  /** What `next` returned last. */
  get current() {
    return this.#bytes;
  }
}
