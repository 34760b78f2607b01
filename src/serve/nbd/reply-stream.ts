/** Where bytes go: a socket, as far as it matters here. */
export interface Sink {
  /** `done` is called, later, when the bytes may be changed again. */
  write(bytes: Uint8Array, done: () => void): void;
}

/** Bytes of a buffer: the longest reply that is sent in one piece has to fit. */
const BUFFER_BYTES = 256 * 1024;
/** How many buffers a connection may have on their way to a client that reads slowly. */
const MAX_BUFFERS = 4;

/**
 * Replies on their way to a client, gathered so that those of one turn go out in one call. Its memory is bounded: where
 * the client does not read, {@link reserve} says no until it has.
 */
export class ReplyStream {
  readonly #sink: Sink;
  readonly #onSpace: () => void;
  readonly #free: ReplyBuffer[] = [];
  #made = 0;
  #current: ReplyBuffer | undefined;
  #wanted = false;

  /** @param onSpace called when there is space again after `reserve` said no */
  constructor(sink: Sink, onSpace: () => void) {
    this.#sink = sink;
    this.#onSpace = onSpace;
  }

  /** The longest piece that {@link reserve} grants. */
  static readonly maxBytes: number = BUFFER_BYTES;

  /**
   * Room for a piece of `bytes`, at most {@link maxBytes}.
   * @returns the buffer to put it into, at its `length`; undefined where the client has to read first
   */
  reserve(bytes: number): ReplyBuffer | undefined {
    if (this.#current !== undefined && this.#current.length + bytes <= BUFFER_BYTES) return this.#current;
    this.flush();
    this.#current = this.#free.pop() ?? this.#make();
    if (this.#current === undefined) this.#wanted = true;
    return this.#current;
  }

  /** Sends what has been gathered. */
  flush(): void {
    const buffer = this.#current;
    if (buffer === undefined || buffer.length === 0) return;
    this.#current = undefined;
    this.#sink.write(buffer.bytes.subarray(0, buffer.length), buffer.release);
  }

  #make(): ReplyBuffer | undefined {
    if (this.#made === MAX_BUFFERS) return undefined;
    this.#made++;
    return new ReplyBuffer((buffer) => {
      buffer.length = 0;
      this.#free.push(buffer);
      if (!this.#wanted) return;
      this.#wanted = false;
      this.#onSpace();
    });
  }
}

/** A buffer of a {@link ReplyStream}, filled from its start. */
export class ReplyBuffer {
  readonly bytes: Uint8Array = new Uint8Array(BUFFER_BYTES);
  readonly view: DataView = new DataView(this.bytes.buffer);
  /** Gives it back: made once, so that a reply costs no closure. */
  readonly release: () => void;
  length = 0;

  constructor(release: (buffer: ReplyBuffer) => void) {
    this.release = () => release(this);
  }
}
