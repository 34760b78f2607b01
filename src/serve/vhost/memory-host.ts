import { CodedError } from '../../core/index.ts';
import { BROKEN, type EndWatch, type Host, type Mapping, NOTHING_YET, type OpenFile } from './host.ts';

/** One end of a connection. */
interface Socket {
  readonly kind: 'socket';
  peer: Socket | undefined;
  readonly arrived: { bytes: Uint8Array; at: number; entries: Entry[] }[];
}

interface Listener {
  readonly kind: 'listener';
  readonly path: string;
  readonly waiting: Socket[];
}

interface Counter {
  readonly kind: 'event';
  count: number;
}

/** A file in memory. What was mapped of it and is not any more can't be touched: its buffer is detached. */
interface MemoryFile {
  readonly kind: 'file';
  bytes: Uint8Array<ArrayBuffer>;
  sealed: boolean;
  readonly sealable: boolean;
  mappings: number;
}

type Entry = (Socket | Listener | Counter | MemoryFile) & { references?: number };

/** How much a socket holds that is not read. */
const ARRIVED_MAX = 1024;

/**
 * An operating system as far as vhost-user needs one, in memory: for tests of the protocol that need no machine's
 * support, are deterministic, and know of every file descriptor and mapping that was not given back. Nothing happens by
 * itself: {@link run} is the event loop.
 */
export class MemoryHost implements Host {
  readonly #entries = new Map<number, Entry>();
  readonly #watches = new Map<number, () => void>();
  readonly #listeners = new Map<string, Listener>();
  #nextFd = 3;
  /** Bytes that are mapped now. */
  mappedBytes = 0;

  /** File descriptors that are open. */
  get openCount(): number {
    return this.#entries.size;
  }

  /** Watches that were not ended. */
  get watchCount(): number {
    return this.#watches.size;
  }

  /** Calls those who watch what is ready, until nothing is. @param turnsMax a bound, for who never takes what is there */
  run(turnsMax = 10_000): void {
    for (let turn = 0; turn < turnsMax; turn++) {
      const ready = [...this.#watches].find(([fd]) => this.#isReady(fd));
      if (ready === undefined) return;
      ready[1]();
    }
    throw new Error('the event loop never comes to rest: something that is ready is not taken');
  }

  listen(path: string): number {
    const listener: Listener = { kind: 'listener', path, waiting: [] };
    this.#listeners.set(path, listener);
    return this.#open(listener);
  }

  endListening(listener: number, path: string): void {
    this.#listeners.delete(path);
    this.close(listener);
  }

  connect(path: string): number {
    const listener = this.#listeners.get(path);
    if (listener === undefined) throw new CodedError('ENOENT', `${path}: no back end listens there`);
    const near: Socket = { kind: 'socket', peer: undefined, arrived: [] };
    const far: Socket = { kind: 'socket', peer: near, arrived: [] };
    near.peer = far;
    listener.waiting.push(far);
    return this.#open(near);
  }

  accept(listener: number): number {
    const entry = this.#entries.get(listener);
    const socket = entry?.kind === 'listener' ? entry.waiting.shift() : undefined;
    return socket === undefined ? NOTHING_YET : this.#open(socket);
  }

  receive(socket: number, target: Uint8Array, fds: number[]): number {
    const entry = this.#entries.get(socket);
    if (entry?.kind !== 'socket') return BROKEN;
    const [first] = entry.arrived;
    if (first === undefined) return entry.peer === undefined ? 0 : NOTHING_YET;
    fds.push(...first.entries.splice(0).map((each) => this.#adopt(each)));
    const count = Math.min(target.length, first.bytes.length - first.at);
    target.set(first.bytes.subarray(first.at, first.at + count));
    first.at += count;
    if (first.at === first.bytes.length) entry.arrived.shift();
    return count;
  }

  isOpen(socket: number): boolean {
    const entry = this.#entries.get(socket);
    return entry?.kind === 'socket' && (entry.peer !== undefined || entry.arrived.length > 0);
  }

  send(socket: number, bytes: Uint8Array, fds: readonly number[]): boolean {
    const entry = this.#entries.get(socket);
    if (entry?.kind !== 'socket' || entry.peer === undefined || entry.peer.arrived.length >= ARRIVED_MAX) return false;
    const entries = fds.map((fd) => this.#entries.get(fd)).filter((each) => each !== undefined);
    for (const each of entries) each.references = (each.references ?? 1) + 1;
    if (bytes.length > 0) entry.peer.arrived.push({ bytes: bytes.slice(), at: 0, entries });
    return true;
  }

  inspect(fd: number): OpenFile | undefined {
    const entry = this.#entries.get(fd);
    if (entry === undefined) return undefined;
    if (entry.kind === 'file') return { kind: 'file', sizeBytes: entry.bytes.length, blockBytes: 4096 };
    return { kind: entry.kind === 'event' ? 'event' : 'other', sizeBytes: 0, blockBytes: 4096 };
  }

  seal(fd: number): boolean {
    const entry = this.#entries.get(fd);
    if (entry?.kind !== 'file' || !entry.sealable) return false;
    entry.sealed = true;
    return true;
  }

  map(fd: number, offsetBytes: number, lengthBytes: number): Mapping | undefined {
    const entry = this.#entries.get(fd);
    if (entry?.kind !== 'file' || offsetBytes + lengthBytes > entry.bytes.length) return undefined;
    entry.mappings++;
    this.mappedBytes += lengthBytes;
    const pieces = [entry.bytes.subarray(offsetBytes, offsetBytes + lengthBytes)];
    let isMapped = true;
    return {
      pieces,
      unmap: () => {
        if (!isMapped) throw new Error('unmapped twice');
        isMapped = false;
        this.mappedBytes -= lengthBytes;
        // The content goes on in another buffer: who still has a view of this one is found out.
        if (--entry.mappings === 0) entry.bytes = moved(entry.bytes);
      },
    };
  }

  createMemory(_name: string, lengthBytes: number): number {
    return this.createFile(lengthBytes, true);
  }

  /** A file in memory. @param sealable whether it can be kept from being made shorter */
  createFile(lengthBytes: number, sealable: boolean): number {
    return this.#open({ kind: 'file', bytes: new Uint8Array(lengthBytes), sealed: false, sealable, mappings: 0 });
  }

  /** What is in a file. */
  contentOf(fd: number): Uint8Array | undefined {
    const entry = this.#entries.get(fd);
    return entry?.kind === 'file' ? entry.bytes : undefined;
  }

  createEvent(): number {
    return this.#open({ kind: 'event', count: 0 });
  }

  watch(fd: number, onReady: () => void): EndWatch | undefined {
    if (this.#entries.get(fd) === undefined || this.inspect(fd)?.kind === 'file') return undefined;
    if (this.#watches.has(fd)) throw new Error(`file descriptor ${fd} is watched twice`);
    this.#watches.set(fd, onReady);
    return () => {
      if (this.#watches.get(fd) === onReady) this.#watches.delete(fd);
    };
  }

  setNonBlocking(fd: number): boolean {
    return this.#entries.has(fd);
  }

  takeEvent(fd: number): number {
    const entry = this.#entries.get(fd);
    if (entry?.kind !== 'event') return BROKEN;
    if (entry.count === 0) return NOTHING_YET;
    entry.count = 0;
    return 1;
  }

  sendEvent(fd: number): void {
    const entry = this.#entries.get(fd);
    if (entry?.kind === 'event') entry.count++;
  }

  close(fd: number): void {
    const entry = this.#entries.get(fd);
    if (entry === undefined) throw new Error(`file descriptor ${fd} is closed, and was closed again`);
    if (this.#watches.has(fd)) throw new Error(`file descriptor ${fd} is closed while it is watched`);
    this.#entries.delete(fd);
    entry.references = (entry.references ?? 1) - 1;
    if (entry.references > 0) return;
    if (entry.kind === 'socket' && entry.peer !== undefined) entry.peer.peer = undefined;
  }

  dispose(): void {}

  #isReady(fd: number): boolean {
    const entry = this.#entries.get(fd);
    if (entry?.kind === 'socket') return entry.arrived.length > 0 || entry.peer === undefined;
    if (entry?.kind === 'listener') return entry.waiting.length > 0;
    return entry?.kind === 'event' && entry.count > 0;
  }

  #open(entry: Entry): number {
    const fd = this.#nextFd++;
    this.#entries.set(fd, entry);
    return fd;
  }

  /** Whether a buffer is the content of a file here. */
  isContent(buffer: ArrayBufferLike): boolean {
    for (const entry of this.#entries.values()) if (entry.kind === 'file' && entry.bytes.buffer === buffer) return true;
    return false;
  }

  /** A file descriptor for what came with a message: it has been counted when it was sent. */
  #adopt(entry: Entry): number {
    return this.#open(entry);
  }
}

/** The same bytes in another buffer; the former one is detached. */
function moved(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return structuredClone(bytes, { transfer: [bytes.buffer] });
}
