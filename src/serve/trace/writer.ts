import { closeSync, openSync, writeSync } from 'node:fs';
import { assertString, CodedError, messageOf } from '../../core/index.ts';
import { visitOccupied } from '../disk/occupied.ts';
import type { OperationObserver, ServedDisk } from '../disk/served-disk.ts';
import type { Mark, TraceHeader, TraceLine } from './events.ts';

/** Characters that are gathered before they are written. */
const BUFFER_CHARACTERS = 1024 * 1024;

/**
 * Records what a served disk does, as JSON lines in a file: first what is durable on it, then each operation, its
 * acknowledgement to the client, what was marked over the control socket, and power cuts.
 */
export class TraceWriter implements OperationObserver {
  readonly path: string;
  readonly #disk: ServedDisk;
  readonly #fd: number;
  #buffer = '';
  #lines = 0;
  #failure: unknown;
  #closed = false;

  /**
   * Starts to record. The disk is flushed first: what is in its cache belongs to no trace.
   * @throws CodedError EINVAL where the file exists or can't be made; DeviceError of the flush
   */
  constructor(disk: ServedDisk, path: string) {
    assertString(path, 'path');
    if (disk.observed) throw new CodedError('EINVAL', 'trace: the disk is being recorded already: stop that first');
    if (!disk.readOnly) disk.flush();
    this.path = path;
    this.#disk = disk;
    this.#fd = create(path);
    const { sectorBytes, sectorCount, profile } = disk;
    this.#put({ powercutTrace: 1, sectorBytes, sectorCount, profile: profile?.name ?? 'none' });
    visitOccupied(disk, (sector, bytes) => this.#put({ kind: 'base', sector, data: base64(bytes) }));
    disk.observe(this);
  }

  /** Lines so far. */
  get lines(): number {
    return this.#lines;
  }

  /** What went wrong with the file, in words: nothing is recorded since. */
  get failure(): string | undefined {
    return this.#failure === undefined ? undefined : messageOf(this.#failure);
  }

  /** @throws CodedError EIO where the file is not complete */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#disk.observe(undefined);
    this.#put({ kind: 'end', lines: this.#lines });
    this.#writeOut();
    closeSync(this.#fd);
    if (this.#failure === undefined) return;
    throw new CodedError('EIO', `trace ${this.path}: it is not complete: ${messageOf(this.#failure)}`, {
      cause: this.#failure,
    });
  }

  mark(mark: Mark, name: string): void {
    this.#put({ kind: 'mark', mark, name });
  }

  wrote(operation: number, sector: number, source: Uint8Array, fua: boolean): void {
    this.#put({ kind: 'write', operation, sector, fua, data: base64(source) });
  }

  zeroed(operation: number, kind: 'discard' | 'writeZeroes', sector: number, sectorCount: number): void {
    this.#put({ kind, operation, sector, sectorCount });
  }

  flushed(operation: number): void {
    this.#put({ kind: 'flush', operation });
  }

  acknowledged(operation: number): void {
    this.#put({ kind: 'acknowledge', operation });
  }

  cut(): void {
    this.#put({ kind: 'cut' });
  }

  #put(line: TraceLine | TraceHeader): void {
    if (this.#failure !== undefined) return;
    this.#buffer += `${JSON.stringify(line)}\n`;
    this.#lines++;
    if (this.#buffer.length >= BUFFER_CHARACTERS) this.#writeOut();
  }

  /** A full file system ends the trace, not the disk. */
  #writeOut(): void {
    const bytes = Buffer.from(this.#buffer);
    this.#buffer = '';
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      this.#failure ??= error;
    }
  }
}

function create(path: string): number {
  try {
    return openSync(path, 'wx', 0o600);
  } catch (cause) {
    throw new CodedError('EINVAL', `trace: ${messageOf(cause)}: name a file that does not exist`, { cause });
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}
