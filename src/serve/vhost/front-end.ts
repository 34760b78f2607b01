import { CodedError, systemTimers, viewOf } from '../../core/index.ts';
import { BROKEN, type EndWatch, type Host, NOTHING_YET } from './host.ts';
import { FLAG_NEED_REPLY, FLAG_REPLY, HEADER_BYTES, PAYLOAD_BYTES_MAX, VERSION } from './protocol.ts';

/** What a back end answered. The file descriptors are the caller's to close. */
export interface VhostReply {
  readonly payload: Uint8Array;
  readonly fds: readonly number[];
}

interface Waiting {
  readonly request: number;
  resolve(reply: VhostReply): void;
  reject(error: Error): void;
}

/**
 * The socket of a vhost-user front end: sends any message, valid or not, and matches answers to requests. For tests of
 * a back end; {@link VhostUserMachine} is one that behaves.
 */
export class VhostUserFrontEnd {
  readonly #host: Host;
  readonly #socket: number;
  readonly #endWatch: EndWatch | undefined;
  readonly #waiting: Waiting[] = [];
  readonly #received: number[] = [];
  readonly #fds: number[] = [];
  readonly #chunk: Uint8Array = new Uint8Array(HEADER_BYTES + PAYLOAD_BYTES_MAX);
  #isOpen = true;
  #tellClosed: () => void = () => undefined;
  /** Settles when the connection is over, whoever ended it. */
  readonly closed: Promise<void> = new Promise((resolve) => {
    this.#tellClosed = resolve;
  });

  /** @throws CodedError ENOENT where nobody listens */
  constructor(host: Host, path: string) {
    this.#host = host;
    this.#socket = host.connect(path);
    this.#endWatch = host.watch(this.#socket, () => this.#receive());
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /**
   * Sends a message that has no answer.
   * @param fds stay the caller's
   * @throws CodedError EIO where the connection is over
   */
  send(request: number, payload: Uint8Array = new Uint8Array(0), fds: readonly number[] = []): void {
    this.#send(request, 0, payload, fds);
  }

  /** Sends a message that has an answer of its own. */
  ask(request: number, payload?: Uint8Array, fds?: readonly number[]): Promise<VhostReply> {
    return this.#ask(request, 0, payload, fds);
  }

  /** Sends a message and asks for an answer that says whether it was done (REPLY_ACK). @returns 0 where it was */
  async confirm(request: number, payload?: Uint8Array, fds?: readonly number[]): Promise<number> {
    const reply = await this.#ask(request, FLAG_NEED_REPLY, payload, fds);
    return Number(viewOf(reply.payload).getBigUint64(0, true));
  }

  /** Sends bytes as they are. */
  sendRaw(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    return this.#isOpen && this.#host.send(this.#socket, bytes, fds);
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#endWatch?.();
    for (const fd of this.#fds.splice(0)) this.#host.close(fd);
    this.#host.close(this.#socket);
    const error = new CodedError('EIO', 'the back end ended the connection');
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    this.#tellClosed();
  }

  #ask(
    request: number,
    flags: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
  ): Promise<VhostReply> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, resolve, reject });
      try {
        this.#send(request, flags, payload, fds);
      } catch (error) {
        this.#waiting.pop();
        reject(error);
      }
    });
  }

  #send(request: number, flags: number, payload: Uint8Array, fds: readonly number[]): void {
    const message = new Uint8Array(HEADER_BYTES + payload.length);
    const view = viewOf(message);
    view.setUint32(0, request, true);
    view.setUint32(4, VERSION | flags, true);
    view.setUint32(8, payload.length, true);
    message.set(payload, HEADER_BYTES);
    if (!this.sendRaw(message, fds)) throw new CodedError('EIO', 'the back end takes no messages');
  }

  #receive(): void {
    const count = this.#host.receive(this.#socket, this.#chunk, this.#fds);
    if (count === NOTHING_YET) return;
    // Otherwise it is ready for as long as it is not closed.
    if (count <= 0) this.#endWatch?.();
    // Out of the foreign frame, in which no promise goes on.
    const bytes = count > 0 ? [...this.#chunk.subarray(0, count)] : [];
    systemTimers.soon(() => {
      this.#received.push(...bytes);
      this.#takeReplies();
      if (count === 0 || count === BROKEN) this.close();
    });
  }

  #takeReplies(): void {
    while (this.#received.length >= HEADER_BYTES) {
      const view = viewOf(Uint8Array.from(this.#received.slice(0, HEADER_BYTES)));
      const endBytes = HEADER_BYTES + view.getUint32(8, true);
      if (this.#received.length < endBytes) return;
      const payload = Uint8Array.from(this.#received.splice(0, endBytes).slice(HEADER_BYTES));
      const waiting = this.#waiting.shift();
      const isAnswer =
        waiting?.request === view.getUint32(0, true) && view.getUint32(4, true) === (VERSION | FLAG_REPLY);
      if (isAnswer) waiting.resolve({ payload, fds: this.#fds.splice(0) });
      else waiting?.reject(new CodedError('EPROTO', 'the back end answered what it was not asked'));
    }
  }
}
