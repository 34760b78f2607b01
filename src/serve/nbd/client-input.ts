import type { Socket } from 'node:net';
import { CodedError } from '../../core/index.ts';

/** What a socket brings, taken by length. One reader at a time. */
export class ClientInput {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#bytes += chunk.length;
      this.#wake?.();
    });
    socket.on('error', (error) => this.#end(error));
    socket.on('close', () => this.#end(new CodedError('EIO', 'the server closed the connection')));
  }

  /**
   * The next `count` bytes.
   * @throws CodedError EIO, or what the socket says, where they do not come
   */
  async take(count: number): Promise<Buffer> {
    while (this.#bytes < count) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#bytes -= count;
    const parts: Buffer[] = [];
    for (let missing = count; missing > 0; ) {
      const first = this.#chunks[0] as Buffer;
      const part = first.subarray(0, missing);
      parts.push(part);
      missing -= part.length;
      if (part.length === first.length) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(part.length);
    }
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
  }

  #end(error: Error): void {
    this.#failure ??= error;
    this.#wake?.();
  }
}
