import { BROKEN, type Host, NOTHING_YET } from './host.ts';
import { FDS_MAX, HEADER_BYTES, PAYLOAD_BYTES_MAX } from './protocol.ts';
import { type MessageHeader, parseHeader } from './request.ts';

/** A whole message. Its file descriptors are the input's: whoever wants to keep one takes it out of the list. */
export interface Message {
  readonly header: MessageHeader;
  /** Valid until the next one. */
  readonly payload: Uint8Array;
  readonly fds: number[];
}

/** `wait`: not all of it is there; `end`: the front end went. */
export type Input = Message | 'wait' | 'end' | { readonly broken: string };

/**
 * Reads messages from a socket, each by itself: never past its end, so that file descriptors belong to the message that
 * they came with. What arrives and is nobody's is closed.
 */
export class MessageInput {
  readonly #host: Host;
  readonly #socket: number;
  readonly #headerBytes: Uint8Array = new Uint8Array(HEADER_BYTES);
  readonly #payloadBytes: Uint8Array = new Uint8Array(PAYLOAD_BYTES_MAX);
  readonly #fds: number[] = [];
  #header: MessageHeader | undefined;
  #filled = 0;

  constructor(host: Host, socket: number) {
    this.#host = host;
    this.#socket = socket;
  }

  /** The next message, as far as it is there. Closes what is left of the file descriptors of the one before. */
  next(): Input {
    if (this.#header === undefined) {
      if (this.#filled === 0) this.closeFds();
      const state = this.#fill(this.#headerBytes);
      if (state !== undefined) return state;
      const header = parseHeader(this.#headerBytes);
      if (typeof header === 'string') return { broken: header };
      this.#header = header;
    }
    const header = this.#header;
    const payload = this.#payloadBytes.subarray(0, header.payloadBytes);
    const state = this.#fill(payload);
    if (state !== undefined) return state;
    this.#header = undefined;
    return { header, payload, fds: this.#fds };
  }

  /** Closes what was not taken. */
  closeFds(): void {
    for (const fd of this.#fds.splice(0)) this.#host.close(fd);
  }

  /** Undefined once `target` is full. */
  #fill(target: Uint8Array): Input | undefined {
    while (this.#filled < target.length) {
      const count = this.#host.receive(this.#socket, target.subarray(this.#filled), this.#fds);
      if (count === NOTHING_YET) return 'wait';
      if (count === BROKEN)
        return { broken: `the socket failed, or more than ${FDS_MAX} file descriptors came at once` };
      if (count === 0) {
        const isBetween = this.#filled === 0 && this.#header === undefined;
        return isBetween ? 'end' : { broken: 'the connection ended inside of a message' };
      }
      // As many as a message may have: who sends some with each byte does not get to fill our table.
      if (this.#fds.length > FDS_MAX) return { broken: `more than ${FDS_MAX} file descriptors with a message` };
      this.#filled += count;
    }
    this.#filled = 0;
    return undefined;
  }
}
