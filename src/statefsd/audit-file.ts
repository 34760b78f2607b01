import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { assertInteger, assertString } from '../core/index.ts';
import type { AuditSink } from './audit.ts';
import type { AuditRecord } from './audit-record.ts';

export interface AuditFileOptions {
  /** The file; made with mode 0600 where there is none. */
  readonly path: string;
  /** A change whose record can't be written is denied. Default false. */
  readonly required?: boolean;
  /** A line that would take the file beyond this goes into a new one. Default 16 MiB. */
  readonly rotateBytes?: number;
  /** Older files that are kept, as `path.1` (the newest) and so on. Default 4. */
  readonly keepFiles?: number;
  /**
   * When records are made durable with fsync. `each`: before the record counts as taken, so that it survives a power
   * cut: the default of a required sink. `close`: when the sink closes and when a file is full, the default otherwise;
   * the operating system writes in its own time, and a power cut may take the last seconds.
   */
  readonly sync?: 'each' | 'close';
}

const DEFAULT_ROTATE_BYTES = 16 * 1024 * 1024;
const DEFAULT_KEEP_FILES = 4;
const LINE_END = 0x0a;

/** Records as lines of JSON in a file that is rotated by size. One process writes to one file. */
export class AuditFile implements AuditSink {
  readonly name: string;
  readonly required: boolean;
  readonly #path: string;
  readonly #rotateBytes: number;
  readonly #keepFiles: number;
  readonly #syncEach: boolean;
  #file: number | undefined;
  #sizeBytes = 0;
  /** Whether the next byte begins a line; not where a crash or a full disk left a part of one. */
  #startsLine = true;
  #isClosed = false;

  /**
   * Opens the file, to append.
   * @throws TypeError, RangeError for what are no options; the system's error where the file can't be opened
   */
  constructor(options: AuditFileOptions) {
    assertString(options.path, 'path');
    const { required = false, rotateBytes = DEFAULT_ROTATE_BYTES, keepFiles = DEFAULT_KEEP_FILES } = options;
    assertInteger(rotateBytes, 'rotateBytes', 1);
    assertInteger(keepFiles, 'keepFiles', 0, 1000);
    this.name = options.path;
    this.required = required;
    this.#path = options.path;
    this.#rotateBytes = rotateBytes;
    this.#keepFiles = keepFiles;
    this.#syncEach = (options.sync ?? (required ? 'each' : 'close')) === 'each';
    this.#open();
  }

  /** @throws the system's error; a later write tries anew */
  write(_record: AuditRecord, line: string): void {
    if (this.#isClosed) throw new Error(`${this.#path}: the sink was closed`);
    let file = this.#file ?? this.#open();
    if (this.#sizeBytes > 0 && this.#sizeBytes + Buffer.byteLength(line) + 1 > this.#rotateBytes) file = this.#rotate();
    const bytes = Buffer.from(`${this.#startsLine ? '' : '\n'}${line}\n`);
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
      this.#sizeBytes += bytes.length;
      this.#startsLine = true;
      if (this.#syncEach) fsyncSync(file);
    } catch (error) {
      // A part may be written, and after a failed fsync the system may say nothing more of what it lost: the next write
      // opens the file anew and looks.
      this.#release();
      throw error;
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#file === undefined) return;
    try {
      fsyncSync(this.#file);
    } finally {
      this.#release();
    }
  }

  #open(): number {
    const isNew = !existsSync(this.#path);
    const file = openSync(this.#path, 'a+', 0o600);
    this.#file = file;
    this.#sizeBytes = fstatSync(file).size;
    this.#startsLine = this.#sizeBytes === 0 || lastByte(file, this.#sizeBytes) === LINE_END;
    if (isNew && this.#syncEach) syncFolderOf(this.#path);
    return file;
  }

  /** `path` becomes `path.1`, which becomes `path.2`, and so on; what is too old is removed. */
  #rotate(): number {
    if (this.#file !== undefined) fsyncSync(this.#file);
    this.#release();
    if (this.#keepFiles > 0) rmSync(`${this.#path}.${this.#keepFiles}`, { force: true });
    for (let i = this.#keepFiles - 1; i >= 1; i--) {
      if (existsSync(`${this.#path}.${i}`)) renameSync(`${this.#path}.${i}`, `${this.#path}.${i + 1}`);
    }
    if (this.#keepFiles === 0) rmSync(this.#path, { force: true });
    else if (existsSync(this.#path)) renameSync(this.#path, `${this.#path}.1`);
    return this.#open();
  }

  #release(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file !== undefined) closeSync(file);
  }
}

function lastByte(file: number, sizeBytes: number): number | undefined {
  const byte = new Uint8Array(1);
  return readSync(file, byte, 0, 1, sizeBytes - 1) === 1 ? byte[0] : undefined;
}

/** A new name is durable once its folder is. */
function syncFolderOf(path: string): void {
  const folder = openSync(dirname(path), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
