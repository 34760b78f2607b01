import { constants } from 'node:fs';
import { assertString, DeviceError, messageOf } from '../core/index.ts';
import {
  type BlockDevice,
  checkRange,
  checkTransfer,
  checkWritable,
  type DeviceFeatures,
  type Geometry,
  resolveGeometry,
  type WriteOptions,
  type WriteZeroesOptions,
} from './device.ts';
import { deviceError } from './file-errors.ts';
import { type FileIo, systemFileIo } from './file-io.ts';

/** What {@link FileDevice.open} takes. */
export interface FileOpenOptions {
  /** Default false. */
  readonly readOnly?: boolean;
  /** Default 512. */
  readonly sectorBytes?: number;
  /** Default 4096, the block of today's disks whatever they emulate. */
  readonly physicalSectorBytes?: number;
  /**
   * Default true: a writer keeps everybody else out, readers keep writers out. False leaves that to the caller.
   */
  readonly lock?: boolean;
  /** The calls to the system. Default the machine's; tests put faults in. */
  readonly io?: FileIo;
}

/** What {@link FileDevice.create} takes. */
export interface FileCreateOptions extends Geometry {
  /** Replaces what an existing file holds. Default false. */
  readonly overwrite?: boolean;
  /** As for {@link FileOpenOptions.lock}. */
  readonly lock?: boolean;
  readonly io?: FileIo;
}

const DEFAULT_PHYSICAL_SECTOR_BYTES = 4096;

/** What zeroing writes at a time: bounded memory, shared by all devices, never written to. */
const ZEROS: Uint8Array = new Uint8Array(256 * 1024);

/** Opening a FIFO for reading would wait for its writer. Means nothing to a regular file; Windows has none. */
const NO_WAIT = constants.O_NONBLOCK ?? 0;

/**
 * A disk in a preallocated file: positioned I/O, `fdatasync` for a flush, and a lock held by the kernel.
 *
 * The operating system's page cache is its volatile cache. After a `fdatasync` that failed, the cache may call pages
 * clean that never reached the medium, and a second `fdatasync` would succeed (Rebello et al., "Can Applications
 * Recover from fsync Failures?", USENIX ATC 2020): the device refuses writes and flushes from then on, until the image
 * is opened again.
 */
export class FileDevice implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean;
  readonly features: DeviceFeatures = { flush: true, fua: true, discard: true, writeZeroes: true, writeCache: true };
  readonly path: string;
  readonly #io: FileIo;
  readonly #fd: number;
  #closed = false;
  /** The flush that failed. */
  #syncFailure: unknown;

  private constructor(path: string, fd: number, io: FileIo, geometry: Required<Geometry>, readOnly: boolean) {
    this.path = path;
    this.sectorBytes = geometry.sectorBytes;
    this.physicalSectorBytes = geometry.physicalSectorBytes;
    this.sectorCount = geometry.sectorCount;
    this.readOnly = readOnly;
    this.#io = io;
    this.#fd = fd;
  }

  /**
   * Makes an image of zeros and opens it for writing. Every block is written once, so that later writes change no
   * metadata of the file system; the image and its directory entry are durable when it returns. A file that could not
   * be completed is removed.
   * @throws TypeError, RangeError for what is no geometry
   * @throws DeviceError EINVAL if the file exists, EBUSY if it is in use, ENOENT, EPERM, ENOSPC, E2BIG, EIO
   */
  static create(path: string, options: FileCreateOptions): FileDevice {
    assertString(path, 'path');
    const geometry = resolveGeometry(withDefaults(options));
    const io = options.io ?? systemFileIo;
    const overwrite = options.overwrite ?? false;
    // Not O_TRUNC: an image is emptied only once its lock is ours.
    const fd = openFile(io, path, constants.O_RDWR | constants.O_CREAT | (overwrite ? 0 : constants.O_EXCL) | NO_WAIT);
    return closingOnError(io, fd, () => {
      let mayRemove = !overwrite;
      try {
        const oldBytes = prepareFile(io, fd, path, options.lock ?? true, false);
        checkRoom(io, path, geometry.sectorCount * geometry.sectorBytes, oldBytes);
        truncate(io, fd, path);
        mayRemove = true;
        preallocate(io, fd, path, geometry.sectorCount * geometry.sectorBytes);
      } catch (error) {
        if (mayRemove) quietly(() => io.unlink(path));
        throw error;
      }
      return new FileDevice(path, fd, io, geometry, false);
    });
  }

  /**
   * Opens an image. Its size tells the number of sectors.
   * @throws TypeError, RangeError for a wrong option
   * @throws DeviceError ENOENT, EPERM, EROFS; EBUSY if it is in use; EINVAL for what is no image; ENOTSUP without locks
   */
  static open(path: string, options: FileOpenOptions = {}): FileDevice {
    assertString(path, 'path');
    // Options are checked before the file is touched.
    const kind = resolveGeometry({ ...withDefaults(options), sectorCount: 1 });
    const readOnly = options.readOnly ?? false;
    const io = options.io ?? systemFileIo;
    const fd = openFile(io, path, (readOnly ? constants.O_RDONLY : constants.O_RDWR) | NO_WAIT);
    return closingOnError(io, fd, () => {
      const sizeBytes = prepareFile(io, fd, path, options.lock ?? true, readOnly);
      return new FileDevice(path, fd, io, imageGeometry(path, sizeBytes, kind), readOnly);
    });
  }

  read(sector: number, target: Uint8Array): void {
    this.#checkOpen();
    checkTransfer(this, sector, target);
    let position = sector * this.sectorBytes;
    for (let done = 0; done < target.length; ) {
      const moved = this.#readSome(target, done, position);
      done += moved;
      position += moved;
    }
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    this.#checkChangeable();
    checkTransfer(this, sector, source);
    this.#writeAll(sector * this.sectorBytes, source, source.length);
    if (options?.fua === true) this.#sync();
  }

  flush(): void {
    this.#checkOpen();
    if (this.readOnly) return;
    this.#checkNoSyncFailure();
    this.#sync();
  }

  /** Writes zeros: to free the blocks would make later writes change metadata. */
  discard(sector: number, sectorCount: number): void {
    this.writeZeroes(sector, sectorCount);
  }

  writeZeroes(sector: number, sectorCount: number, _options?: WriteZeroesOptions): void {
    this.#checkChangeable();
    checkRange(this, sector, sectorCount);
    const end = (sector + sectorCount) * this.sectorBytes;
    for (let position = sector * this.sectorBytes; position < end; position += ZEROS.length) {
      this.#writeAll(position, ZEROS, Math.min(ZEROS.length, end - position));
    }
  }

  /** Closes the file, which drops the lock. What was not flushed is up to the operating system. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.#io.close(this.#fd);
    } catch (cause) {
      throw deviceError(cause, 'close', this.path);
    }
  }

  #readSome(target: Uint8Array, offset: number, position: number): number {
    let moved: number;
    try {
      moved = this.#io.read(this.#fd, target, offset, target.length - offset, position);
    } catch (cause) {
      throw deviceError(cause, 'read', this.path);
    }
    if (moved > 0) return moved;
    throw new DeviceError(
      'EIO',
      `read ${this.path}: expected ${target.length - offset} more bytes at ${position}, got the end of the file: ` +
        'the image was cut short while it was open, restore it',
    );
  }

  #writeAll(position: number, source: Uint8Array, lengthBytes: number): void {
    try {
      writeAll(this.#io, this.#fd, position, source, lengthBytes);
    } catch (cause) {
      throw deviceError(cause, 'write', this.path);
    }
  }

  #sync(): void {
    try {
      this.#io.syncData(this.#fd);
    } catch (cause) {
      this.#syncFailure = cause;
      throw deviceError(cause, 'flush', this.path);
    }
  }

  #checkOpen(): void {
    if (this.#closed) throw new DeviceError('ECLOSED', 'the device was closed: open it again to use it');
  }

  #checkChangeable(): void {
    this.#checkOpen();
    checkWritable(this);
    this.#checkNoSyncFailure();
  }

  #checkNoSyncFailure(): void {
    if (this.#syncFailure === undefined) return;
    throw new DeviceError(
      'EIO',
      `${this.path}: an earlier flush failed (${messageOf(this.#syncFailure)}), so writes before it may be lost ` +
        'although a new flush would succeed: check the disk, then close the image and open it again',
      { cause: this.#syncFailure },
    );
  }
}

function withDefaults<T extends { readonly sectorBytes?: number; readonly physicalSectorBytes?: number }>(
  options: T,
): T & { readonly physicalSectorBytes: number } {
  return { ...options, physicalSectorBytes: options.physicalSectorBytes ?? DEFAULT_PHYSICAL_SECTOR_BYTES };
}

function openFile(io: FileIo, path: string, flags: number): number {
  try {
    return io.open(path, flags);
  } catch (cause) {
    throw deviceError(cause, 'open', path);
  }
}

function closingOnError<T>(io: FileIo, fd: number, use: () => T): T {
  try {
    return use();
  } catch (error) {
    quietly(() => io.close(fd));
    throw error;
  }
}

/**
 * Checks that a descriptor is a regular file, and takes its lock.
 * @returns the file's size in bytes, as it is under the lock
 */
function prepareFile(io: FileIo, fd: number, path: string, lock: boolean, readOnly: boolean): number {
  try {
    if (!io.stat(fd).isFile) throw new DeviceError('EINVAL', `${path}: expected a regular file: name an image`);
    if (lock && !io.tryLock(fd, readOnly)) throw inUse(path, readOnly);
    return io.stat(fd).sizeBytes;
  } catch (error) {
    throw error instanceof DeviceError ? error : deviceError(error, 'lock', path);
  }
}

function inUse(path: string, readOnly: boolean): DeviceError {
  const holder = readOnly ? 'is open for writing elsewhere' : 'is open elsewhere, for writing or reading';
  return new DeviceError(
    'EBUSY',
    `${path}: the image ${holder}: close the other device or stop its process (the lock goes with it), or use a copy`,
  );
}

function imageGeometry(path: string, sizeBytes: number, kind: Required<Geometry>): Required<Geometry> {
  const { sectorBytes } = kind;
  if (sizeBytes === 0) throw new DeviceError('EINVAL', `${path}: expected an image, got an empty file: create it`);
  if (sizeBytes % sectorBytes !== 0) {
    throw new DeviceError(
      'EINVAL',
      `${path}: expected whole sectors of ${sectorBytes} bytes, got ${sizeBytes} bytes: ` +
        'a truncated image is restored from a copy; another sector size is passed as sectorBytes',
    );
  }
  try {
    return resolveGeometry({ ...kind, sectorCount: sizeBytes / sectorBytes });
  } catch (cause) {
    throw new DeviceError('EINVAL', `${path}: no image of ours is as large as ${sizeBytes} bytes`, { cause });
  }
}

function truncate(io: FileIo, fd: number, path: string): void {
  try {
    io.truncate(fd, 0);
  } catch (cause) {
    throw deviceError(cause, 'empty', path);
  }
}

/** Before it is filled to the brim: others live on that file system too. */
function checkRoom(io: FileIo, path: string, sizeBytes: number, oldBytes: number): void {
  let freeBytes: number;
  try {
    freeBytes = io.freeBytes(path) + oldBytes;
  } catch {
    // One that does not tell is tried.
    return;
  }
  if (sizeBytes <= freeBytes) return;
  throw new DeviceError(
    'ENOSPC',
    `${path}: expected ${sizeBytes} bytes of free space, got ${freeBytes}: make a smaller image`,
  );
}

/** Makes the empty file `sizeBytes` of written zeros, not of holes: a hole's first write would change metadata. */
function preallocate(io: FileIo, fd: number, path: string, sizeBytes: number): void {
  try {
    for (let position = 0; position < sizeBytes; position += ZEROS.length) {
      writeAll(io, fd, position, ZEROS, Math.min(ZEROS.length, sizeBytes - position));
    }
    io.sync(fd);
    io.syncParent(path);
  } catch (cause) {
    throw deviceError(cause, 'create', path);
  }
}

function writeAll(io: FileIo, fd: number, position: number, source: Uint8Array, lengthBytes: number): void {
  for (let done = 0; done < lengthBytes; ) {
    const moved = io.write(fd, source, done, lengthBytes - done, position + done);
    if (moved <= 0) throw new Error(`wrote 0 of ${lengthBytes - done} bytes`);
    done += moved;
  }
}

/** Cleans up after an error, which is the one to report. */
function quietly(cleanUp: () => void): void {
  try {
    cleanUp();
  } catch {}
}
