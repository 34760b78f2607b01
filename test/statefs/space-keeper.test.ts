import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { open, type StateFs, type StoreEvent } from '../../src/statefs/index.ts';
import { holdProperty } from '../property/replay.ts';
import { bytes, codeThrown, FailingDevice, formatted, ioError, reopen } from './helpers.ts';

const FILE = 'test/statefs/space-keeper.test.ts';

interface Told {
  readonly phase: string;
  /** What the store said of itself at that moment. */
  readonly freeBytes: number;
  readonly liveBytes: number;
}

/** A store that notes what it tells of compaction. */
function noting(device: FailingDevice): { store: StateFs; told: Told[] } {
  const told: Told[] = [];
  const store: StateFs = open(device, {
    onEvent: (event: StoreEvent) => {
      if (event.type !== 'compaction') return;
      const { freeBytes, liveBytes } = store.stats();
      expect(event.freeBytes).toBe(freeBytes);
      told.push({ phase: event.phase, freeBytes, liveBytes });
    },
  });
  return { store, told };
}

/** Half of what it would leave is used up, and it would gain a 32nd of the region. */
function isDue({ freeBytes, liveBytes }: Pick<Told, 'freeBytes' | 'liveBytes'>, regionBytes: number): boolean {
  const freeAfter = regionBytes - liveBytes;
  return freeBytes < freeAfter / 2 && freeAfter - freeBytes >= regionBytes / 32;
}

describe('compaction by itself', () => {
  test('begins when it is due and no sooner, and is done before half of what was left then is used up', () => {
    const name = 'begins when it is due and no sooner, and is done before half of what was left then is used up';
    const change = fc.tuple(fc.nat({ max: 30 }), fc.constantFrom(0, 5, 300, 400, 900, 2500), fc.nat({ max: 9 }));
    const property = fc.property(
      fc.constantFrom(256, 304, 512),
      fc.nat({ max: 25 }),
      fc.array(change, { minLength: 60, maxLength: 160, size: 'max' }),
      (sectorCount, live, changes) => {
        const { store, told } = noting(new FailingDevice(formatted(sectorCount)));
        const { regionBytes } = store.stats();
        let began: number | undefined;
        for (const [i, [key, length, chance]] of changes.entries()) {
          const before = store.stats();
          told.length = 0;
          const code = codeThrown(() =>
            chance === 0
              ? store.delete(`/state/${key % (live + 1)}`)
              : store.put(`/state/${key % (live + 1)}`, bytes(length, i)),
          );
          const after = store.stats();
          // Where there was no room it is another story: all of it is done at once.
          if (code !== 'none' || told.length > 2) continue;
          const [first] = told;
          if (first?.phase === 'started' && first.freeBytes <= before.freeBytes) {
            expect(isDue(first, regionBytes)).toBe(true);
            began = first.freeBytes;
          } else if (!before.compacting && first === undefined && after.lastSequence > before.lastSequence) {
            expect(isDue(after, regionBytes)).toBe(false);
          }
          if (told.at(-1)?.phase === 'finished' && told.length === 1 && began !== undefined) {
            expect(before.freeBytes).toBeGreaterThanOrEqual(began / 2);
          }
        }
      },
    );
    holdProperty(FILE, name, property, { numRuns: 15 });
  });

  it('fails no change where it fails; then it waits until half of what was free is used up, and goes on as ever', () => {
    const device = new FailingDevice(formatted(512));
    const { store, told } = noting(device);
    for (let i = 0; i < 8; i++) store.put(`/state/${i}`, bytes(100, i));
    let isFailing = false;
    device.before = (kind) => isFailing && kind === 'read' && ioError();
    isFailing = true;
    const frees: number[] = [];
    for (let i = 0; told.length < 4; i++) {
      store.put('/state/hot', bytes(100, i));
      if (told.length > frees.length) frees.push(store.stats().freeBytes, store.stats().freeBytes);
    }
    expect(told.map(({ phase }) => phase)).toEqual(['started', 'abandoned', 'started', 'abandoned']);
    const [, first, second] = told as [Told, Told, Told];
    // A put takes two sectors.
    expect(second.freeBytes).toBeLessThan(first.freeBytes / 2);
    expect(second.freeBytes).toBeGreaterThanOrEqual(first.freeBytes / 2 - 2 * 512);
    expect(store.isLatched).toBe(false);
    isFailing = false;
    told.length = 0;
    for (let i = 0; i < 1000; i++) store.put('/state/hot', bytes(100, i));
    const starts = told.filter(({ phase }) => phase === 'started');
    expect(starts.length).toBeGreaterThan(5);
    const { regionBytes } = store.stats();
    // Once it has succeeded it begins as soon as it is due.
    for (const one of starts.slice(1)) {
      expect(isDue(one, regionBytes)).toBe(true);
      expect(isDue({ ...one, freeBytes: one.freeBytes + 2 * 512 }, regionBytes)).toBe(false);
    }
    expect(reopen(device).list()).toHaveLength(9);
  });

  it('hides no error that is not the device speaking', () => {
    const device = new FailingDevice(formatted(512));
    const { store } = noting(device);
    device.before = (kind) => {
      if (kind === 'read') throw new RangeError('a defect');
    };
    const code = codeThrown(() => {
      for (let i = 0; i < 500; i++) store.put('/state/hot', bytes(100, i));
    });
    expect(code).toBe('RangeError: a defect');
  });

  it('does not begin while a snapshot needs the other region, nor where it is to be manual', () => {
    const device = new FailingDevice(formatted(256));
    const { store, told } = noting(device);
    store.put('/state/a', bytes(100));
    const snapshot = store.snapshot();
    store.compact();
    told.length = 0;
    for (let i = 0; i < 40; i++) store.put('/state/hot', bytes(100, i));
    expect(told).toEqual([]);
    snapshot.close();
    store.put('/state/hot', bytes(100));
    expect(told[0]?.phase).toBe('started');
    const manual = open(new FailingDevice(formatted(256)), { compaction: 'manual' });
    const code = codeThrown(() => {
      for (let i = 0; i < 500; i++) manual.put('/state/hot', bytes(100, i));
    });
    expect(code).toBe('ENOSPC');
    // One live key: room for its deletion is kept.
    expect(manual.stats()).toMatchObject({ compacting: false, compactions: 0, freeBytes: 2 * 512 });
    expect(manual.delete('/state/hot')).toBe(true);
    expect(manual.stats().freeBytes).toBe(0);
    manual.compact();
    expect(manual.stats()).toMatchObject({ compactions: 1, freeBytes: 120 * 512, keys: 0 });
  });

  it('of a store that has latched is not what a put that finds no room tells of', () => {
    const device = new FailingDevice(formatted(256));
    const store = open(device);
    store.put('/state/large', bytes(20_000));
    const snapshot = store.snapshot();
    for (let i = 0; i < 18; i++) store.put('/state/hot', bytes(400, i));
    snapshot.close();
    device.before = (kind) => kind === 'flush' && ioError();
    expect(codeThrown(() => store.put('/state/large', bytes(30_000)))).toBe('EIO');
    expect(store.isLatched).toBe(true);
  });
});

describe('a full store', () => {
  it('takes what fits once it is compacted, and says how much is missing for the rest', () => {
    const device = new FailingDevice(formatted(256));
    const store = open(device, { compaction: 'auto' });
    let count = 0;
    while (codeThrown(() => store.put(`/state/${count}`, bytes(300, count))) === 'none') count++;
    const { liveBytes, regionBytes } = store.stats();
    const { writes } = device;
    expect(() => store.put('/state/more', bytes(300))).toThrow(
      /the store is full: \d+ bytes are missing.*delete something/,
    );
    expect(codeThrown(() => store.put('/state/more', bytes(300)))).toBe('ENOSPC');
    expect(device.writes).toBe(writes);
    // As many as their bound and the room for deletions let in: one more would not fit.
    expect(liveBytes + 7 * 1024).toBeLessThanOrEqual(regionBytes);
    expect(liveBytes + 7 * 1024 + 4 * 512).toBeGreaterThan(regionBytes);
    // A new value stands beside the old one until it is committed: with room for two, any number can be replaced.
    for (const key of [0, 1, 2]) store.delete(`/state/${key}`);
    for (let i = 0; i < 200; i++) store.put(`/state/${3 + (i % (count - 3))}`, bytes(300, i));
    expect(codeThrown(() => store.put('/state/0', bytes(3000)))).toBe('ENOSPC');
    for (let i = 3; i < count; i++) expect(store.delete(`/state/${i}`, { durable: i % 2 === 0 })).toBe(true);
    expect(store.stats()).toMatchObject({ keys: 0, liveBytes: 0 });
    store.put('/state/large', bytes(40_000));
    expect(reopen(device).get('/state/large')).toEqual(bytes(40_000));
  });
});
