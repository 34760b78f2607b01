/** The longest line: a token of a cut that left very many sectors undecided is long. */
export const MAX_LINE_BYTES: number = 1024 * 1024;

/** Splits what a socket brings into lines, with a bound on what is kept. */
export class LineSplitter {
  readonly #decoder = new TextDecoder();
  #rest = '';

  /** @returns the lines that `chunk` completes; undefined where one is too long: nothing that follows means anything */
  push(chunk: Uint8Array): string[] | undefined {
    const parts = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split('\n');
    this.#rest = parts.pop() ?? '';
    return this.#rest.length > MAX_LINE_BYTES ? undefined : parts;
  }
}
