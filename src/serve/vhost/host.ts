/** What {@link Host.receive} returns where it has no bytes. */
export const NOTHING_YET = -1;
/** The other side is gone, or sent more file descriptors than a message may have. */
export const BROKEN = -2;

/** Memory that another process has as well. */
export interface Mapping {
  /** The bytes, in pieces that lie one behind the other: no one buffer can be as long as a guest's memory. */
  readonly pieces: readonly Uint8Array[];
  /**
   * Gives the memory back. To touch a piece afterwards is the end of the process, which nothing can catch: nobody may
   * have one by then.
   */
  unmap(): void;
}

/** What a file descriptor stands for. */
export interface OpenFile {
  /**
   * `event`: an event counter or a pipe. A socket is none: a front end that hands over its own end of the connection would
   * keep that open for ever.
   */
  readonly kind: 'file' | 'event' | 'other';
  readonly sizeBytes: number;
  /** What offsets of mappings are multiples of. */
  readonly blockBytes: number;
}

/** Ends the watching of a file descriptor. It has to be called before that one is closed. */
export type EndWatch = () => void;

/**
 * What a vhost-user back end needs of the operating system and Node.js has not got: sockets that carry file
 * descriptors, memory of another process, events. Everything is synchronous, and nothing waits.
 */
export interface Host {
  /**
   * Listens at a Unix socket, for the owner only; the path is free.
   * @returns its file descriptor
   * @throws CodedError EINVAL
   */
  listen(path: string): number;
  /** Ends that, and removes the socket. */
  endListening(listener: number, path: string): void;
  /** @throws CodedError ENOENT where nobody listens */
  connect(path: string): number;
  /** The next client; {@link NOTHING_YET} where there is none. */
  accept(listener: number): number;
  /**
   * Reads what is there.
   * @param fds gets the file descriptors that came with it: they are the caller's to close, also where it fails
   * @returns how many bytes; 0 for the end, {@link NOTHING_YET} or {@link BROKEN}
   */
  receive(socket: number, target: Uint8Array, fds: number[]): number;
  /** Whether the other side of a socket is still there. */
  isOpen(socket: number): boolean;
  /** Sends bytes, with file descriptors, all at once. @returns false where the socket does not take them now */
  send(socket: number, bytes: Uint8Array, fds: readonly number[]): boolean;
  /** Undefined where it is none that can be looked at. */
  inspect(fd: number): OpenFile | undefined;
  /** Makes sure that a file can't be made shorter from now on. @returns whether that is so */
  seal(fd: number): boolean;
  /** Maps a part of a file, shared, to be read and written. @param offsetBytes any @returns undefined where it can't be */
  map(fd: number, offsetBytes: number, lengthBytes: number): Mapping | undefined;
  /** A file in memory, of zeros. @throws CodedError EIO */
  createMemory(name: string, lengthBytes: number): number;
  /** An event counter. @throws CodedError EIO */
  createEvent(): number;
  /**
   * Calls `onReady`, from the event loop, whenever the file descriptor has something to be read.
   * @returns undefined where it is of a kind that can't be watched
   */
  watch(fd: number, onReady: () => void): EndWatch | undefined;
  /** Makes reading and writing it never wait. @returns false where that can't be */
  setNonBlocking(fd: number): boolean;
  /** Takes what an event counted, or eight bytes of a pipe. @returns 1, {@link NOTHING_YET}, or {@link BROKEN} for never */
  takeEvent(fd: number): number;
  /** Counts an event. One that is not taken, because the other side does not take any, is lost. */
  sendEvent(fd: number): void;
  close(fd: number): void;
  /** Gives up what the host itself holds. */
  dispose(): void;
}
