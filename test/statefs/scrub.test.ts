import { describe, expect, test } from 'vitest';
import type { MemoryDevice } from '../../src/blockdev/index.ts';
import { equalBytes, Sfc32 } from '../../src/core/index.ts';
import {
  fsck,
  inspect,
  open,
  type ScrubReport,
  type StateFs,
  type StoreEvent,
  soundRules,
} from '../../src/statefs/index.ts';
import { bytes, codeThrown, FailingDevice, formatted, imageOf, ioError } from './helpers.ts';

const LIVE: readonly [string, Uint8Array][] = [
  ['/state/a', bytes(40, 1)],
  ['/state/b', bytes(600, 2)],
  ['/state/large', bytes(9000, 3)],
];

interface World {
  readonly device: MemoryDevice;
  readonly store: StateFs;
  readonly events: StoreEvent[];
}

/** A store in use: live values, dead ones, and a deleted key. */
function world(): World {
  const device = formatted(1024);
  const events: StoreEvent[] = [];
  const store = open(device, { onEvent: (event) => events.push(event), compaction: 'manual' });
  store.putAtomic('/state/a', bytes(30, 9));
  store.putAtomic('/state/gone', bytes(30, 8));
  for (const [key, value] of LIVE) store.putAtomic(key, value);
  store.delete('/state/gone');
  return { device, store, events };
}

function spoil(device: MemoryDevice, ...sectors: number[]): void {
  for (const sector of sectors) device.write(sector, new Uint8Array(512).fill(0xa5));
}

/** Sectors of the frames of `types` in the newest group that has `key`. */
function framesOf(device: MemoryDevice, key: string, types: readonly string[], nth = -1): number[] {
  const groups = inspect(device).groups.filter(({ frames }) =>
    frames.some(({ operations }) => operations.some((operation) => operation.key === key)),
  );
  return (groups.at(nth)?.frames ?? [])
    .filter(({ type, operations }) => types.includes(type) && operations.some((one) => one.key === key))
    .map(({ sector }) => sector);
}

function expectLive(store: StateFs): void {
  for (const [key, value] of LIVE) expect(equalBytes(store.get(key), value)).toBe(true);
  expect(store.list()).toEqual(LIVE.map(([key]) => key));
}

/** Everything is there, now and after opening again, and fsck finds nothing. */
function expectSound({ device, store }: World): void {
  expectLive(store);
  expect(fsck(device)).toMatchObject({ verdict: 'clean' });
  expectLive(open(device));
}

const briefly = ({ findings }: ScrubReport) => findings.map(({ part, mended }) => `${part} ${mended}`);

describe('a scrub', () => {
  test('of a sound store reads all of it, finds nothing, and writes nothing', () => {
    const { device, store, events } = world();
    const before = imageOf(device);
    events.length = 0;
    const report = store.scrub();
    expect(report).toEqual({
      verifiedBytes: expect.any(Number),
      verifiedValues: 3,
      damaged: 0,
      mended: 0,
      findings: [],
    });
    // Superblocks, the log twice over for its live records, and the extent of 9,000 bytes.
    expect(report.verifiedBytes).toBeGreaterThan(1024 + 6 * 1024 + 9000);
    expect(events.map((event) => (event.type === 'scrub' ? event.phase : event.type))).toEqual(['started', 'finished']);
    expect(equalBytes(imageOf(device), before)).toBe(true);
    expect(store.stats()).toMatchObject({ scrubs: 1, scrubbing: false, lastScrub: report });
  });

  test.each([
    ['newer', true],
    ['older', false],
  ])('mends the %s superblock copy, in use and right after opening', (_name, isNewer) => {
    for (const inUse of [true, false]) {
      const first = world();
      first.store.close();
      const store = open(first.device);
      if (inUse) store.putAtomic('/state/a', LIVE[0]?.[1] as Uint8Array);
      const newer = inspect(first.device).superblocks.find((one) => one.inUse)?.copy;
      spoil(first.device, (newer === 0) === isNewer ? 0 : 8);
      expect(briefly(store.scrub())).toEqual(['superblock rewritten']);
      expect(briefly(store.scrub())).toEqual([]);
      expectSound({ ...first, store });
    }
  });

  test('mends both superblock copies: what was written is known', () => {
    for (const inUse of [true, false]) {
      const first = world();
      first.store.close();
      const store = open(first.device);
      if (inUse) store.putAtomic('/state/a', LIVE[0]?.[1] as Uint8Array);
      spoil(first.device, 0, 8);
      expect(codeThrown(() => open(first.device))).toBe('EINTEGRITY');
      expect(briefly(store.scrub())).toEqual(['superblock rewritten', 'superblock rewritten']);
      expectSound({ ...first, store });
      store.putAtomic('/state/a', LIVE[0]?.[1] as Uint8Array);
      expectSound({ ...first, store });
    }
  });

  test('says so where the medium does not keep the superblock', () => {
    const { device, store: first } = world();
    first.close();
    const failing = new FailingDevice(device);
    const stores = [true, false].map((verifies) => {
      const store = open(failing, { rules: { ...soundRules, scrub: { ...soundRules.scrub, verifies } } });
      store.putAtomic('/state/a', bytes(3));
      return store;
    });
    failing.before = (kind, sector) => {
      if (kind === 'read' && sector === 8) ioError();
    };
    expect(stores[0]?.scrub()).toMatchObject({ damaged: 1, mended: 0, findings: [{ part: 'superblock', sector: 8 }] });
    expect(stores[1]?.scrub()).toMatchObject({ damaged: 1, mended: 1 });
    // To go on would be to write over the one copy that can be read.
    const next = open(failing);
    expect(codeThrown(() => next.putAtomic('/state/a', bytes(3)))).toBe('EIO');
    expect(next.get('/state/a')).toEqual(bytes(3));
  });

  test('saves a store from a dead group that a restart could not tell: nothing is stale, nothing hidden', () => {
    const one = world();
    spoil(one.device, ...framesOf(one.device, '/state/a', ['temp', 'commit'], 0));
    // A restart would not know what it had written.
    expect(codeThrown(() => open(one.device).list())).toBe('EINTEGRITY');
    expect(briefly(one.store.scrub())).toEqual(['log moved']);
    expect(briefly(one.store.scrub())).toEqual([]);
    expectSound(one);
  });

  test('gives a value back its second proof', () => {
    const one = world();
    spoil(one.device, ...framesOf(one.device, '/state/b', ['commit']));
    expect(fsck(one.device)).toMatchObject({ verdict: 'repairable' });
    expect(briefly(one.store.scrub())).toEqual(['log moved']);
    expectSound(one);
  });

  test('names a value that is lost, keeps the loss reported, and all else', () => {
    const one = world();
    spoil(one.device, ...framesOf(one.device, '/state/b', ['temp']));
    const report = one.store.scrub();
    expect(briefly(report)).toEqual(['log moved', 'value undefined']);
    expect(report.findings[1]).toMatchObject({
      keys: ['/state/b'],
      lost: expect.stringMatching(/^the value of \/state\/b \(600 bytes, group \d+\)$/),
    });
    for (const store of [one.store, open(one.device)]) {
      expect(codeThrown(() => store.get('/state/b'))).toBe('EINTEGRITY');
      expect(equalBytes(store.get('/state/a'), bytes(40, 1))).toBe(true);
    }
    one.store.putAtomic('/state/b', bytes(600, 2));
    expect(briefly(one.store.scrub())).toEqual([]);
    expectSound(one);
  });

  test.each(LIVE)('puts %s again from where it was before the log moved', (key, value) => {
    const one = world();
    one.store.compact();
    const { meta } = one.store.stat(key);
    const [temp] = framesOf(one.device, key, ['temp']) as [number];
    spoil(one.device, key === '/state/large' ? inspect(one.device).payloadFloor + 5 : temp);
    expect(one.store.scrub().findings.at(-1)).toMatchObject({ part: 'value', keys: [key], mended: 'copied' });
    expect(one.store.stat(key).meta).toEqual(meta);
    expect(equalBytes(one.store.get(key), value)).toBe(true);
    expectSound(one);
  });

  test('puts a value again from where compaction has brought it', () => {
    const device = formatted(2048);
    const store = open(device, { compaction: 'manual' });
    for (let i = 0; i < 100; i++) store.put(`/state/${i}`, bytes(100, i));
    expect(store.compactStep(42_000)).toBe(false);
    spoil(device, ...framesOf(device, '/state/0', ['temp']));
    expect(store.scrub().findings.at(-1)).toMatchObject({ part: 'value', keys: ['/state/0'], mended: 'copied' });
    expect(store.get('/state/0')).toEqual(bytes(100, 0));
    store.close();
    expect(fsck(device)).toMatchObject({ verdict: 'clean' });
  });

  test('does not invent: a second copy that is damaged, of another value, or forgotten is none', () => {
    const value = bytes(40, 1);
    const spoilLive = (one: World): ScrubReport => {
      spoil(one.device, ...framesOf(one.device, '/state/a', ['temp']));
      return one.store.scrub();
    };
    const both = world();
    const old = framesOf(both.device, '/state/a', ['temp']);
    both.store.compact();
    spoil(both.device, ...old);
    expect(spoilLive(both).findings.at(-1)).toMatchObject({ part: 'value', mended: undefined });

    const changed = world();
    changed.store.compact();
    changed.store.putAtomic('/state/a', bytes(41, 7));
    expect(spoilLive(changed).findings.at(-1)).toMatchObject({ part: 'value', mended: undefined });

    const reopened = world();
    reopened.store.compact();
    reopened.store.close();
    const again = { ...reopened, store: open(reopened.device) };
    expect(spoilLive(again).findings.at(-1)).toMatchObject({ part: 'value', mended: undefined });
    for (const { store } of [both, changed, again]) {
      expect(codeThrown(() => store.get('/state/a'))).toBe('EINTEGRITY');
      store.putAtomic('/state/a', value);
      expect(store.get('/state/a')).toEqual(value);
    }
  });

  test('read-only reports the same and writes nothing', () => {
    const { device, store } = world();
    store.close();
    spoil(device, 8, ...framesOf(device, '/state/b', ['commit']));
    const before = imageOf(device);
    const report = open(device, { readOnly: true }).scrub();
    expect(briefly(report)).toEqual(['superblock undefined', 'log undefined']);
    expect(equalBytes(imageOf(device), before)).toBe(true);
  });

  test('takes no error that passes for damage', () => {
    const { device, store: first } = world();
    first.close();
    const failing = new FailingDevice(device);
    const store = open(failing);
    const once = new Set<number>();
    failing.before = (kind, sector) => {
      if (kind !== 'read' || (sector > 40 && sector % 32 !== 3) || once.has(sector)) return;
      once.add(sector);
      ioError();
    };
    expect(store.scrub()).toMatchObject({ damaged: 0, verifiedValues: 3 });
    expect(once.size).toBeGreaterThan(10);
  });

  test('leaves alone what the medium may give later', () => {
    const { device, store: first } = world();
    first.close();
    const failing = new FailingDevice(device);
    const store = open(failing);
    const [temp] = framesOf(device, '/state/b', ['temp']) as [number];
    failing.before = (kind, sector) => {
      if (kind === 'read' && sector === temp) ioError();
    };
    const report = store.scrub();
    expect(briefly(report)).toEqual(['log undefined', 'value undefined']);
    expect(report.findings[0]?.what).toMatch(/the medium does not give/);
    failing.before = () => {};
    expect(briefly(store.scrub())).toEqual([]);
    expectLive(store);
  });

  test('reports at its events: address, key, what is lost, and how it was mended', () => {
    const { device, store, events } = world();
    spoil(device, ...framesOf(device, '/state/b', ['commit']));
    events.length = 0;
    const { findings } = store.scrub();
    const [finding] = findings;
    expect(finding).toMatchObject({ part: 'log', keys: ['/state/b'], lost: 'nothing', mended: 'moved' });
    expect(finding?.offsetBytes).toBe((finding?.sector ?? 0) * 512);
    expect(events.filter(({ type }) => type.startsWith('scrub-'))).toEqual([
      { type: 'scrub-damage', finding: { ...finding, mended: undefined } },
      { type: 'scrub-mended', finding },
    ]);
  });
});

describe('a scrub in steps', () => {
  test('reads no more in one than it was given, and a piece of 64 KiB', () => {
    const device = formatted(16_384);
    const failing = new FailingDevice(device);
    const store = open(failing);
    for (let i = 0; i < 300; i++) store.put(`/state/${i}`, bytes(200, i));
    store.putAtomic('/state/large', bytes(1_000_000, 7));
    let read = 0;
    failing.before = (kind) => {
      if (kind === 'read') read++;
    };
    let most = 0;
    let steps = 0;
    for (let report: ScrubReport | undefined; report === undefined; steps++) {
      read = 0;
      report = store.scrubStep(4096);
      most = Math.max(most, read);
    }
    expect(most).toBeLessThanOrEqual((4096 + 65_536) / 512);
    expect(steps).toBeGreaterThan(60);
  });

  test('goes on beside puts, deletions, snapshots and moves, and is done in the end', () => {
    const { device, store } = world();
    const random = new Sfc32(5);
    let steps = 0;
    for (let report: ScrubReport | undefined; report === undefined; steps++) {
      report = store.scrubStep(512);
      if (report !== undefined) expect(report.damaged).toBe(0);
      const key = `/state/x/${random.below(4)}`;
      if (steps === 7 || steps === 20) store.compact();
      if (random.below(3) === 0) store.delete(key);
      else store.put(key, bytes(random.below(300), steps));
      expect(steps).toBeLessThan(1000);
    }
    expect(store.stats().scrubs).toBe(1);
    store.close();
    expect(fsck(device)).toMatchObject({ verdict: 'clean' });
  });

  test('finds what went bad behind what it had read ahead', () => {
    const device = formatted(1024);
    const store = open(device, { compaction: 'manual' });
    for (let i = 0; i < 20; i++) store.put(`/state/${i}`, bytes(100, i));
    store.sync();
    expect(store.scrubStep(2048)).toBeUndefined();
    spoil(device, ...framesOf(device, '/state/15', ['commit']));
    expect(briefly(store.scrub())).toEqual(['log moved']);
  });
});

test('one flipped bit anywhere: found where fsck finds it, and never a wrong byte', () => {
  const sample = world();
  const random = new Sfc32(11);
  const end = inspect(sample.device).tailSector * 512;
  let mended = 0;
  for (let at = 0; at < end; at += 1 + random.below(90)) {
    const one = world();
    const sector = new Uint8Array(512);
    one.device.read(at >>> 9, sector);
    sector[at & 511]! ^= 1 << random.below(8);
    one.device.write(at >>> 9, sector);
    const isDamaged = fsck(one.device).check.findings.some(({ severity }) => severity !== 'residue');
    const report = one.store.scrub();
    // What a restart can't tell from a torn tail a scrub knows to have been written.
    if (isDamaged) expect(report.damaged).toBeGreaterThan(0);
    mended += report.mended;
    const lost = new Set(report.findings.flatMap(({ lost, keys }) => (lost === 'nothing' ? [] : keys)));
    for (const store of [one.store, open(one.device)]) {
      for (const [key, value] of LIVE) {
        if (lost.has(key)) expect(codeThrown(() => store.get(key))).toBe('EINTEGRITY');
        else expect(equalBytes(store.get(key), value)).toBe(true);
      }
    }
  }
  expect(mended).toBeGreaterThan(50);
});
