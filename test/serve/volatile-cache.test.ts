import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type BlockDevice, MemoryDevice } from '../../src/blockdev/index.ts';
import { equalBytes, Sfc32 } from '../../src/core/index.ts';
import { type DiskProfile, type ProfileName, profiles } from '../../src/faults/index.ts';
import { type CutResolution, type Medium, MIN_CACHE_BYTES, VolatileCache } from '../../src/serve/index.ts';
import { deviceConformance } from '../../src/testing/index.ts';
import { holdProperty, isCaught } from '../property/replay.ts';
import { CacheModel, SECTORS } from './cache-model.ts';

const FILE = 'test/serve/volatile-cache.test.ts';
const NAMES = Object.keys(profiles) as ProfileName[];

function memory(profile: DiskProfile, sectorCount: number): MemoryDevice {
  const { sectorBytes, physicalSectorBytes } = profile;
  return new MemoryDevice({ sectorBytes, physicalSectorBytes, sectorCount });
}

for (const name of ['nvme-512', '512e'] as const) {
  const profile = profiles[name];
  const { sectorBytes, physicalSectorBytes } = profile;
  describe(`a volatile cache with ${name} over memory`, () => {
    const media = new WeakMap<BlockDevice, MemoryDevice>();
    const on = (medium: MemoryDevice): VolatileCache => {
      const cache = new VolatileCache(medium, profile, MIN_CACHE_BYTES);
      media.set(cache, medium);
      return cache;
    };
    const cases = deviceConformance(() => on(memory(profile, 304)), {
      // What was flushed is on the medium: a new cache over it finds it.
      reopen: (device) => {
        const image = (media.get(device) as MemoryDevice).snapshot();
        device.close();
        return on(MemoryDevice.fromImage(image, { sectorBytes, physicalSectorBytes }));
      },
      makeReadOnly: (image) => on(MemoryDevice.fromImage(image, { sectorBytes, physicalSectorBytes, readOnly: true })),
    });
    for (const { name: caseName, skip, run } of cases) {
      if (skip === undefined) test(caseName, run);
      else test.skip(`${caseName} (${skip})`, run);
    }
  });
}

type Outcome = 'all-lost' | 'all-kept' | number;
type Step =
  | { kind: 'write'; at: number; count: number; seed: number; fua: boolean }
  | { kind: 'writeZeroes' | 'discard'; at: number; count: number }
  | { kind: 'flush' }
  | { kind: 'cut'; outcome: Outcome };

const at = fc.nat({ max: SECTORS - 1 });
const count = fc.integer({ min: 1, max: 9 });
const outcome = fc.oneof(fc.constantFrom('all-lost' as const, 'all-kept' as const), fc.nat({ max: 1000 }));
/** Seed 0: bytes that came nowhere else; others come again. */
const seed = fc.nat({ max: 3 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('write' as const), at, count, seed, fua: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('writeZeroes' as const, 'discard' as const), at, count }) },
  { weight: 2, arbitrary: fc.constant<Step>({ kind: 'flush' }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cut' as const), outcome }) },
);

interface World {
  readonly profile: DiskProfile;
  /** More than fits is written elsewhere between the steps, so that the cache writes out by itself. */
  readonly pressure: boolean;
  readonly makeMedium: () => Medium;
}

/** Runs steps on a cache and on the model, and compares what is read, and what each cut leaves. */
class Comparison {
  readonly #world: World;
  readonly #cache: VolatileCache;
  readonly #model: CacheModel;
  #tag = 0;

  constructor(world: World) {
    this.#world = world;
    this.#cache = new VolatileCache(world.makeMedium(), world.profile, MIN_CACHE_BYTES);
    this.#model = new CacheModel(world.profile);
  }

  run(steps: readonly Step[]): void {
    for (const one of steps) {
      this.#step(one);
      if (this.#world.pressure) this.#press();
    }
    this.#cut('all-lost');
  }

  #step(one: Step): void {
    if (one.kind === 'cut') {
      this.#cut(one.outcome);
    } else if (one.kind === 'flush') {
      this.#cache.flush();
      this.#model.flush();
    } else {
      const sectors = Math.min(one.count, SECTORS - one.at);
      if (one.kind === 'write') {
        const bytes = this.#bytes(sectors, one.seed);
        this.#cache.write(one.at, bytes, { fua: one.fua });
        this.#model.write(one.at, bytes, one.fua);
      } else {
        this.#cache[one.kind](one.at, sectors);
        this.#model[one.kind](one.at, sectors);
      }
    }
  }

  #bytes(sectors: number, chosen: number): Uint8Array {
    const bytes = new Uint8Array(sectors * this.#world.profile.sectorBytes);
    new Sfc32(chosen === 0 ? ++this.#tag + 100 : chosen).fill(bytes);
    return bytes;
  }

  #press(): void {
    const filling = this.#bytes(300, 0);
    for (let i = 0; i < 4; i++) this.#cache.write(8192 + ((this.#tag + i) % 20) * 300, filling);
  }

  #cut(how: Outcome): void {
    this.#model.compareNewest(this.#read());
    this.#cache.cut();
    const resolution: CutResolution = typeof how === 'number' ? { seed: how } : how;
    this.#cache.resolve(resolution);
    // What the cache has written out by itself is not lost: the model does not know it.
    const kind = typeof how === 'number' || (how === 'all-lost' && this.#world.pressure) ? 'any' : how;
    this.#model.settleOn(this.#read(), kind);
  }

  #read(): Uint8Array {
    const image = new Uint8Array(SECTORS * this.#world.profile.sectorBytes);
    this.#cache.read(0, image);
    return image;
  }
}

const script = fc.array(step, { minLength: 1, maxLength: 40 });

describe('what a cut leaves of a cached disk', () => {
  for (const name of NAMES) {
    for (const pressure of [false, true]) {
      const title = `is what the model allows, ${name}, ${pressure ? 'the cache is full' : 'there is room in the cache'}`;
      test(title, () => {
        const profile = profiles[name];
        const world: World = { profile, pressure, makeMedium: () => memory(profile, 16_384) };
        const property = fc.property(script, (steps) => new Comparison(world).run(steps));
        holdProperty(FILE, title, property, { numRuns: pressure ? 5 : 80 });
      });
    }
  }

  /** Forgets a write now and then. */
  class ForgetfulMedium extends MemoryDevice {
    #writes = 0;
    override write(...args: Parameters<MemoryDevice['write']>): void {
      if (++this.#writes % 7 !== 0) super.write(...args);
    }
  }

  /** Says of everything that it is a hole. */
  class DenyingMedium extends MemoryDevice {
    override extent(_sector: number, sectorCount: number): number {
      return -sectorCount;
    }
  }

  test.each([
    ['that loses what the cache writes out', ForgetfulMedium],
    ['that denies what it holds', DenyingMedium],
  ])('and the comparison notices a medium %s', (_name, Medium) => {
    const makeMedium = (): Medium => new Medium({ sectorCount: 16_384 });
    const world: World = { profile: profiles['nvme-512'], pressure: false, makeMedium };
    const property = fc.property(script, (steps) => new Comparison(world).run(steps));
    expect(isCaught(property, { numRuns: 200, seed: 1 })).toBe(true);
  });
});

describe('the memory of the cache', () => {
  test('is bounded, however often one sector is written', () => {
    const cache = new VolatileCache(memory(profiles['nvme-512'], 1024), profiles['nvme-512'], MIN_CACHE_BYTES);
    const bytes = new Uint8Array(512);
    let most = 0;
    for (let i = 0; i < 50_000; i++) {
      bytes[0] = i;
      bytes[1] = i >>> 8;
      cache.write(7, bytes);
      most = Math.max(most, cache.versionCount(7));
    }
    expect(most).toBe(32);
    cache.cut();
    expect(cache.resolve('all-kept').undecidedSectors).toBe(1);
    const found = new Uint8Array(512);
    cache.read(7, found);
    expect(equalBytes(found, bytes)).toBe(true);
  });

  test('is bounded, wherever is written', () => {
    const cache = new VolatileCache(memory(profiles['nvme-512'], 2 ** 30), profiles['nvme-512'], MIN_CACHE_BYTES);
    const bytes = new Uint8Array(64 * 512).fill(1);
    for (let i = 0; i < 1000; i++) cache.write(i * 100_000, bytes);
    expect(cache.writeOuts).toBeGreaterThan(25);
    expect(cache.dirtySectorCount * 512).toBeLessThanOrEqual(MIN_CACHE_BYTES);
  });
});

describe('a token', () => {
  function cutDisk(): VolatileCache {
    const cache = new VolatileCache(memory(profiles.harsh, 1024), profiles.harsh, MIN_CACHE_BYTES);
    const bytes = new Uint8Array(40 * 512);
    for (let i = 1; i < 4; i++) {
      new Sfc32(i).fill(bytes);
      cache.write(10 * i, bytes);
    }
    cache.cut();
    return cache;
  }
  const content = (cache: VolatileCache): Uint8Array => {
    const image = new Uint8Array(1024 * 512);
    cache.read(0, image);
    return image;
  };

  test('decides the same again, and another seed another way', () => {
    const [first, second, third] = [cutDisk(), cutDisk(), cutDisk()];
    const report = first.resolve({ seed: 5 });
    expect(report.undecidedSectors).toBe(60);
    expect(report.lostSectors).toBeGreaterThan(10);
    expect(report.tornSectors).toBeGreaterThan(5);
    expect(second.resolve({ token: report.token as string })).toEqual(report);
    expect(equalBytes(content(first), content(second))).toBe(true);
    third.resolve({ seed: 6 });
    expect(equalBytes(content(first), content(third))).toBe(false);
  });

  test('of another cut, and what is none, is refused, and decides nothing', () => {
    const cache = cutDisk();
    const other = new VolatileCache(memory(profiles.harsh, 1024), profiles.harsh, MIN_CACHE_BYTES);
    other.write(3, new Uint8Array(512).fill(1));
    other.cut();
    const { token } = other.resolve({ seed: 1 });
    expect(() => cache.resolve({ token: token as string })).toThrow(/another cut/);
    for (const text of ['', 'pcd1.', 'pcd1.!!!', 'pc1.abc', `pcd1.${'A'.repeat(1000)}`])
      expect(() => cache.resolve({ token: text }), text).toThrow(/expected pcd1/);
    expect(cache.undecided).toBe(true);
    expect(cache.resolve('all-lost').lostSectors).toBe(60);
    expect(content(cache).every((byte) => byte === 0)).toBe(true);
  });
});
