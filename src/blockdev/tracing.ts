import { codeOf } from '../core/index.ts';
import type { BlockDevice, DeviceFeatures, WriteOptions, WriteZeroesOptions } from './device.ts';

/** What was done. */
export type TraceKind = 'read' | 'write' | 'flush' | 'discard' | 'writeZeroes' | 'close';

/** One operation, when it has ended. Every event has every field, so that all have one shape. */
export interface TraceEvent {
  /** 0 for the first operation of this device. */
  readonly sequence: number;
  readonly kind: TraceKind;
  /** 0 for `flush` and `close`. */
  readonly sector: number;
  /** 0 for `flush` and `close`. */
  readonly sectorCount: number;
  readonly fua: boolean;
  readonly unmap: boolean;
  /** The code of the error that it threw; undefined where it succeeded. */
  readonly errorCode: string | undefined;
}

/** Gets each event. An error that it throws goes to the caller of the operation, which has been done all the same. */
export type TraceSink = (event: TraceEvent) => void;

/**
 * Another device, with a report of each operation: what and where, never the bytes. Calls with arguments of a wrong
 * type are not reported. It stands in for the other device: closing it closes that one.
 */
export class TracingDevice implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly: boolean;
  readonly features: DeviceFeatures;
  readonly #device: BlockDevice;
  readonly #sink: TraceSink;
  #sequence = 0;

  constructor(device: BlockDevice, sink: TraceSink) {
    this.sectorBytes = device.sectorBytes;
    this.physicalSectorBytes = device.physicalSectorBytes;
    this.sectorCount = device.sectorCount;
    this.readOnly = device.readOnly;
    this.features = device.features;
    this.#device = device;
    this.#sink = sink;
  }

  read(sector: number, target: Uint8Array): void {
    try {
      this.#device.read(sector, target);
    } catch (error) {
      if (!(error instanceof TypeError)) this.#failed('read', sector, this.#count(target), false, false, error);
      throw error;
    }
    this.#report('read', sector, this.#count(target), false, false, undefined);
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    const fua = options?.fua === true;
    try {
      this.#device.write(sector, source, options);
    } catch (error) {
      if (!(error instanceof TypeError)) this.#failed('write', sector, this.#count(source), fua, false, error);
      throw error;
    }
    this.#report('write', sector, this.#count(source), fua, false, undefined);
  }

  flush(): void {
    try {
      this.#device.flush();
    } catch (error) {
      this.#failed('flush', 0, 0, false, false, error);
      throw error;
    }
    this.#report('flush', 0, 0, false, false, undefined);
  }

  discard(sector: number, sectorCount: number): void {
    try {
      this.#device.discard(sector, sectorCount);
    } catch (error) {
      if (!(error instanceof TypeError)) this.#failed('discard', sector, sectorCount, false, false, error);
      throw error;
    }
    this.#report('discard', sector, sectorCount, false, false, undefined);
  }

  writeZeroes(sector: number, sectorCount: number, options?: WriteZeroesOptions): void {
    const unmap = options?.unmap === true;
    try {
      this.#device.writeZeroes(sector, sectorCount, options);
    } catch (error) {
      if (!(error instanceof TypeError)) this.#failed('writeZeroes', sector, sectorCount, false, unmap, error);
      throw error;
    }
    this.#report('writeZeroes', sector, sectorCount, false, unmap, undefined);
  }

  close(): void {
    this.#device.close();
    this.#report('close', 0, 0, false, false, undefined);
  }

  #count(buffer: Uint8Array): number {
    return buffer.length / this.sectorBytes;
  }

  #failed(kind: TraceKind, sector: number, sectorCount: number, fua: boolean, unmap: boolean, error: unknown): void {
    this.#report(kind, sector, sectorCount, fua, unmap, codeOf(error) ?? 'unknown');
  }

  #report(
    kind: TraceKind,
    sector: number,
    sectorCount: number,
    fua: boolean,
    unmap: boolean,
    errorCode: string | undefined,
  ): void {
    const sequence = this.#sequence++;
    this.#sink({ sequence, kind, sector, sectorCount, fua, unmap, errorCode });
  }
}
