import type { BlockDevice } from '../blockdev/index.ts';
import { messageOf, Sfc32 } from '../core/index.ts';
import { expectBytes, expectCode, fail } from './assertions.ts';
import type { DeviceBench } from './device-case-types.ts';

/** Sectors that the random cases work on: more than one page of any of our devices. */
const WINDOW_SECTORS = 300;

/**
 * Drives a device and a plain model of it with the same random operations.
 * @param at which end of the device: arithmetic on addresses fails at the ends
 */
export function runRandomModel(device: BlockDevice, bench: DeviceBench, at: 'start' | 'end'): void {
  const run = new ModelRun(device, bench, at);
  try {
    for (let step = 0; step < bench.stepCount; step++) run.step(step);
    run.checkAll();
  } finally {
    run.device.close();
  }
}

/** One run: the device (which changes when it is reopened), the model, and the generator. */
class ModelRun {
  device: BlockDevice;
  readonly #bench: DeviceBench;
  readonly #prng: Sfc32;
  readonly #model: ModelDisk;
  /** The device's sector at which the model's sector 0 lies. */
  readonly #base: number;

  constructor(device: BlockDevice, bench: DeviceBench, at: 'start' | 'end') {
    const sectorCount = Math.min(WINDOW_SECTORS, device.sectorCount);
    this.device = device;
    this.#bench = bench;
    this.#prng = new Sfc32(bench.seed);
    this.#model = new ModelDisk(sectorCount, device.sectorBytes);
    this.#base = at === 'start' ? 0 : device.sectorCount - sectorCount;
  }

  step(step: number): void {
    const operation = this.#pick();
    const first = this.#prng.below(this.#model.sectorCount);
    const room = this.#model.sectorCount - first;
    const wish = this.#prng.below(8) === 0 ? 200 : 6;
    const count = 1 + this.#prng.below(Math.min(wish, room));
    try {
      this.#apply(operation, first, count);
    } catch (cause) {
      const place = `${operation} of ${count} sectors from ${this.#base + first}`;
      throw new Error(`seed ${this.#bench.seed}, step ${step}, ${place}: ${messageOf(cause)}`, { cause });
    }
  }

  checkAll(): void {
    this.#read(0, this.#model.sectorCount);
  }

  #pick(): Operation {
    let drawn = this.#prng.below(100);
    for (const [operation, weight] of WEIGHTS) {
      if (drawn < weight) return this.#offers(operation) ? operation : 'read';
      drawn -= weight;
    }
    return 'read';
  }

  #offers(operation: Operation): boolean {
    switch (operation) {
      case 'fua':
      case 'flush':
      case 'discard':
      case 'writeZeroes':
        return this.device.features[operation];
      case 'reopen':
        return this.#bench.reopen !== undefined;
      default:
        return true;
    }
  }

  #apply(operation: Operation, first: number, count: number): void {
    if (operation === 'write') this.#write(first, count, false);
    else if (operation === 'fua') this.#write(first, count, true);
    else if (operation === 'writeZeroes') this.#writeZeroes(first, count);
    else if (operation === 'discard') this.#discard(first, count);
    else if (operation === 'flush') this.device.flush();
    else if (operation === 'reopen') this.#reopen();
    else if (operation === 'refused') this.#refused(count);
    else this.#read(first, count);
  }

  #write(first: number, count: number, fua: boolean): void {
    const source = new Uint8Array(count * this.#model.sectorBytes);
    this.#prng.fill(source);
    this.#model.write(first, source);
    this.device.write(this.#base + first, source, { fua });
    source.fill(0xdd);
  }

  #writeZeroes(first: number, count: number): void {
    this.device.writeZeroes(this.#base + first, count, { unmap: this.#prng.below(2) === 1 });
    this.#model.write(first, new Uint8Array(count * this.#model.sectorBytes));
  }

  #discard(first: number, count: number): void {
    this.device.discard(this.#base + first, count);
    this.#model.discard(first, count);
  }

  /** A write that hangs over the end of the device must change nothing, the sectors inside neither. */
  #refused(count: number): void {
    const source = new Uint8Array(count * this.#model.sectorBytes).fill(0xbb);
    const sector = this.device.sectorCount - count + 1;
    expectCode(() => this.device.write(sector, source), 'EINVAL', 'a write over the end');
  }

  #reopen(): void {
    if (this.#bench.reopen === undefined) fail('the maker cannot reopen');
    if (this.device.features.flush) this.device.flush();
    else if (this.device.features.writeCache) return;
    this.device = this.#bench.reopen(this.device);
  }

  #read(first: number, count: number): void {
    const target = new Uint8Array(count * this.#model.sectorBytes).fill(0xcc);
    this.device.read(this.#base + first, target);
    this.#model.check(first, target);
  }
}

type Operation = 'write' | 'fua' | 'read' | 'writeZeroes' | 'discard' | 'flush' | 'reopen' | 'refused';

/** In hundredths. */
const WEIGHTS: readonly (readonly [Operation, number])[] = [
  ['write', 35],
  ['read', 36],
  ['writeZeroes', 8],
  ['discard', 8],
  ['fua', 4],
  ['flush', 4],
  ['reopen', 2],
  ['refused', 3],
];

/** A plain array, and for discarded sectors everything that they may read as: zeros, or anything that was there. */
class ModelDisk {
  readonly sectorCount: number;
  readonly sectorBytes: number;
  readonly #content: Uint8Array;
  readonly #discarded: Uint8Array;
  readonly #versions: Uint8Array[][];

  constructor(sectorCount: number, sectorBytes: number) {
    this.sectorCount = sectorCount;
    this.sectorBytes = sectorBytes;
    this.#content = new Uint8Array(sectorCount * sectorBytes);
    this.#discarded = new Uint8Array(sectorCount);
    this.#versions = Array.from({ length: sectorCount }, () => [new Uint8Array(sectorBytes)]);
  }

  write(first: number, source: Uint8Array): void {
    this.#content.set(source, first * this.sectorBytes);
    for (let i = 0; i * this.sectorBytes < source.length; i++) {
      this.#versions[first + i]?.push(source.slice(i * this.sectorBytes, (i + 1) * this.sectorBytes));
      this.#discarded[first + i] = 0;
    }
  }

  discard(first: number, count: number): void {
    this.#discarded.fill(1, first, first + count);
  }

  check(first: number, actual: Uint8Array): void {
    for (let i = 0; i * this.sectorBytes < actual.length; i++) {
      const sector = first + i;
      const got = actual.subarray(i * this.sectorBytes, (i + 1) * this.sectorBytes);
      if (this.#discarded[sector] === 1) this.#checkDiscarded(sector, got);
      else expectBytes(got, this.#sector(sector), `sector ${sector} of the model`);
    }
  }

  #checkDiscarded(sector: number, got: Uint8Array): void {
    const known = this.#versions[sector]?.some((version) => Buffer.compare(version, got) === 0);
    if (!known) fail(`discarded sector ${sector} of the model reads as something that was never there`);
  }

  #sector(sector: number): Uint8Array {
    return this.#content.subarray(sector * this.sectorBytes, (sector + 1) * this.sectorBytes);
  }
}
