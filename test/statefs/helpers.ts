import { type BlockDevice, MemoryDevice } from '../../src/blockdev/index.ts';
import { DeviceError } from '../../src/core/index.ts';
import { format, type OpenOptions, open, type StateFs } from '../../src/statefs/index.ts';

export const STORE_ID: Uint8Array = new Uint8Array(16).fill(0x5a);

/** A formatted device of `sectorCount` sectors. */
export function formatted(sectorCount = 512, sectorBytes = 512, physicalSectorBytes = sectorBytes): MemoryDevice {
  const device = new MemoryDevice({ sectorCount, sectorBytes, physicalSectorBytes });
  format(device, { storeId: STORE_ID });
  return device;
}

export function bytes(length: number, seed = 1): Uint8Array {
  const out = new Uint8Array(length);
  let state = seed * 2654435761;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    out[i] = state >>> 24;
  }
  return out;
}

/** The whole device as bytes. */
export function imageOf(device: BlockDevice): Uint8Array {
  const image = new Uint8Array(device.sectorCount * device.sectorBytes);
  device.read(0, image);
  return image;
}

export function deviceOf(image: Uint8Array, sectorBytes = 512, physicalSectorBytes = sectorBytes): MemoryDevice {
  const device = new MemoryDevice({ sectorCount: image.length / sectorBytes, sectorBytes, physicalSectorBytes });
  device.write(0, image);
  return device;
}

export function reopen(device: BlockDevice, options: OpenOptions = {}): StateFs {
  return open(device, options);
}

/** The code of what `run` throws; 'none' where it returns. */
export function codeThrown(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    const code = (error as { code?: string }).code;
    return code ?? `${(error as Error).name}: ${(error as Error).message}`;
  }
  return 'none';
}

/** A device that fails on command, and counts. */
export class FailingDevice implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean;
  readonly features: BlockDevice['features'];
  reads = 0;
  writes = 0;
  flushes = 0;
  /** Called before each operation; throws to make it fail. */
  before: (kind: 'read' | 'write' | 'flush', sector: number) => void = () => {};
  /** Told of each read. */
  onRead: (sector: number, sectorCount: number) => void = () => {};
  /** Whether a write is acknowledged and lost. */
  drop: (sector: number) => boolean = () => false;
  readonly #inner: BlockDevice;

  constructor(inner: BlockDevice) {
    this.#inner = inner;
    this.sectorBytes = inner.sectorBytes;
    this.physicalSectorBytes = inner.physicalSectorBytes;
    this.sectorCount = inner.sectorCount;
    this.readOnly = inner.readOnly;
    this.features = inner.features;
  }

  read(sector: number, target: Uint8Array): void {
    this.reads++;
    this.onRead(sector, target.length / this.sectorBytes);
    for (let i = 0; i < target.length / this.sectorBytes; i++) this.before('read', sector + i);
    this.#inner.read(sector, target);
  }

  write(sector: number, source: Uint8Array): void {
    this.writes++;
    this.before('write', sector);
    if (!this.drop(sector)) this.#inner.write(sector, source);
  }

  flush(): void {
    this.flushes++;
    this.before('flush', 0);
    this.#inner.flush();
  }

  discard(sector: number, sectorCount: number): void {
    this.#inner.discard(sector, sectorCount);
  }

  writeZeroes(sector: number, sectorCount: number): void {
    this.#inner.writeZeroes(sector, sectorCount);
  }

  close(): void {}
}

export function ioError(): never {
  throw new DeviceError('EIO', 'the medium failed');
}
