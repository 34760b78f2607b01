import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { FrameCodec } from '../../src/statefs/frame.ts';
import { type StoreGeometry, storeGeometry } from '../../src/statefs/geometry.ts';
import type { GroupOperation, PlannedOperation } from '../../src/statefs/group.ts';
import { open, type Quota } from '../../src/statefs/index.ts';
import { type IndexEntry, keyBytesOf } from '../../src/statefs/index-entry.ts';
import { KeySpace } from '../../src/statefs/key-space.ts';
import { FRAME_HEADER_BYTES, KIND_DELETE, KIND_LOST, KIND_PUT, TEMP_BYTES } from '../../src/statefs/layout.ts';
import { LiveSpace, reservedSectors } from '../../src/statefs/live-space.ts';
import { PayloadStore } from '../../src/statefs/payload.ts';
import { checkQuotas, QuotaCounter } from '../../src/statefs/quota.ts';
import { holdProperty } from '../property/replay.ts';
import { bytes, codeThrown, formatted, STORE_ID } from './helpers.ts';

const FILE = 'test/statefs/space.test.ts';

function spaceOn(geometry: StoreGeometry): LiveSpace {
  const { sectorBytes, sectorCount } = geometry;
  const codec = new FrameCodec(STORE_ID, sectorBytes);
  return new LiveSpace(
    codec,
    geometry,
    new PayloadStore(new MemoryDevice({ sectorBytes, sectorCount }), codec, geometry),
  );
}

interface Record {
  readonly key: string;
  readonly payloadBytes: number;
  readonly isLost: boolean;
}

const ENVELOPE_BYTES = 40;
/** Payloads beyond stand in an extent. */
const INLINE_BYTES = 1500;

function entryOf({ key, payloadBytes, isLost }: Record): IndexEntry {
  const keyBytes = Buffer.byteLength(key);
  const isInline = payloadBytes <= INLINE_BYTES;
  const envelopeBytes = isLost ? 0 : ENVELOPE_BYTES;
  return {
    kind: isLost ? KIND_LOST : KIND_PUT,
    key,
    sequence: 1,
    epoch: 1,
    tempSector: 16,
    tempBodyBytes: TEMP_BYTES + keyBytes + envelopeBytes + (isInline && !isLost ? payloadBytes : 0),
    envelopeOffset: FRAME_HEADER_BYTES + TEMP_BYTES + keyBytes,
    envelopeBytes,
    payloadBytes: isLost ? 0 : payloadBytes,
    extentFrames: isInline || isLost ? 0 : Math.ceil(payloadBytes / 1984),
    extentSector: isInline || isLost ? 0 : 300,
    digest: undefined,
  };
}

function operationOf(record: Record, isDelete: boolean): PlannedOperation {
  const entry = entryOf(record);
  const none = new Uint8Array(0);
  const operation: GroupOperation = {
    kind: isDelete ? KIND_DELETE : entry.kind,
    key: record.key,
    keyBytes: new TextEncoder().encode(record.key),
    envelope: none,
    payloadBytes: isDelete ? 0 : entry.payloadBytes,
    payload: none,
    digest: none,
  };
  const { payloadBytes, extentFrames, extentSector } = entry;
  const extent = { extentFrames, extentSector, payloadBytes, sequence: 0, epoch: 0 };
  return {
    operation,
    tempOffset: 0,
    tempBodyBytes: entry.tempBodyBytes,
    tempSectors: Math.ceil((FRAME_HEADER_BYTES + entry.tempBodyBytes) / 512),
    extent: !isDelete && extentFrames > 0 ? extent : undefined,
    ownSequence: 0,
  };
}

const record: fc.Arbitrary<Record> = fc.record({
  key: fc.constantFrom('a', 'b', 'ü', 'app/1', 'app/2', 'app/ü', 'z'.repeat(200)).map((name) => `/state/${name}`),
  payloadBytes: fc.oneof(fc.nat({ max: 600 }), fc.constantFrom(INLINE_BYTES, INLINE_BYTES + 1, 1984, 1985, 9000)),
  isLost: fc.boolean(),
});

const QUOTAS: Quota[] = [{ prefix: '/state/app/' }, { prefix: '' }];

describe('the index', () => {
  /** What follows from the records alone, in the order in which they were put. */
  function expectToHold(keys: KeySpace, model: ReadonlyMap<string, Record>, geometry: StoreGeometry): void {
    const records = [...model.values()];
    expect(keys.size).toBe(records.length);
    expect([...keys.entries()].map(({ key }) => key)).toEqual([...model.keys()]);
    expect(keys.lostCount).toBe(records.filter(({ isLost }) => isLost).length);
    const sizes = (prefix: string): { prefix: string; keys: number; bytes: number } => {
      const under = records.filter(({ key }) => key.startsWith(prefix)).map(entryOf);
      const total = under.reduce((sum, one) => sum + keyBytesOf(one) + one.payloadBytes, 0);
      return { prefix, keys: under.length, bytes: total };
    };
    expect(keys.quotas.usage()).toEqual(QUOTAS.map(({ prefix }) => sizes(prefix)));
    const space = spaceOn(geometry);
    for (const one of records) space.add(entryOf(one));
    expect(keys.space.boundSectors).toBe(space.boundSectors);
    for (const prefix of ['', '/state/app/', '/state/b', '/zzz']) {
      const under = [...model.keys()].filter((key) => key.startsWith(prefix)).sort();
      for (const limit of [0, 1, 2, 100]) expect(keys.list(prefix, limit)).toEqual(under.slice(0, limit));
    }
  }

  const change = fc.record({ record, how: fc.constantFrom('set', 'set', 'delete', 'share', 'move') });

  test('holds after any changes what follows from its records, and shows to others what they were given', () => {
    const name = 'holds after any changes what follows from its records, and shows to others what they were given';
    const geometry = storeGeometry(512, 8192, 4096);
    const property = fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      const keys = new KeySpace(spaceOn(geometry), new QuotaCounter(QUOTAS));
      const model = new Map<string, Record>();
      const shares: { shared: ReturnType<KeySpace['share']>; was: IndexEntry[] }[] = [];
      let left: Map<string, IndexEntry> | undefined;
      for (const { record: one, how } of changes) {
        const { key } = one;
        if (how === 'set') {
          model.delete(key);
          model.set(key, one);
          keys.set(entryOf(one));
          expect(keys.get(key)).toEqual(entryOf(one));
        } else if (how === 'delete') {
          expect(keys.delete(key)).toBe(model.delete(key));
          expect([keys.has(key), keys.get(key)]).toEqual([false, undefined]);
        } else if (how === 'share') {
          shares.push({ shared: keys.share(), was: [...keys.entries()] });
        } else {
          left = new Map([...keys.entries()].map((entry) => [entry.key, entry]));
          const moved = keys.fresh();
          expect([moved.size, moved.space.boundSectors, moved.lostCount]).toEqual([0, 0, 0]);
          for (const entry of keys.entries()) moved.set({ ...entry, tempSector: entry.tempSector + 1 });
          keys.takeOver(moved);
          expect(keys.get(key)?.tempSector).toBe(
            left.has(key) ? (left.get(key) as IndexEntry).tempSector + 1 : undefined,
          );
        }
        expect(keys.has(key)).toBe(model.has(key));
        expect(keys.leftBehind(key)).toEqual(left?.get(key));
        expectToHold(keys, model, geometry);
        for (const { shared, was } of shares) expect([...shared.entries.values()]).toEqual(was);
      }
      keys.forgetLeftBehind();
      expect(keys.leftBehind('/state/a')).toBe(undefined);
      keys.forgetUsage();
      expect(keys.quotas.usage()).toEqual(QUOTAS.map(({ prefix }) => ({ prefix, keys: 0, bytes: 0 })));
    });
    holdProperty(FILE, name, property, { numRuns: 20 });
  });

  test('is copied once for those that share it, and not at all where none does', () => {
    const keys = new KeySpace(spaceOn(storeGeometry(512, 8192, 512)));
    const put = (payloadBytes: number) => keys.set(entryOf({ key: '/state/a', payloadBytes, isLost: false }));
    put(1);
    const [first, second] = [keys.share(), keys.share()];
    expect(first.entries).toBe(second.entries);
    put(2);
    expect(first.entries).toBe(second.entries);
    const kept = first.entries;
    put(3);
    keys.delete('/state/a');
    expect(first.entries).toBe(kept);
    expect(kept.get('/state/a')?.payloadBytes).toBe(1);
  });
});

describe('what live records need of a region', () => {
  /** Sectors of temp frames and extents in whole units, of full commit frames, and what a group of 64 may waste. */
  function boundOf(records: readonly Record[], { sectorBytes, unitSectors, frameSectors }: StoreGeometry): number {
    if (records.length === 0) return 0;
    const frames = records.map(entryOf).reduce((sum, { tempBodyBytes, payloadBytes, extentFrames }) => {
      const temp = Math.ceil((64 + tempBodyBytes) / sectorBytes);
      if (extentFrames === 0) return sum + temp;
      const chunk = frameSectors * sectorBytes - 64;
      const full = Math.ceil(payloadBytes / chunk) - 1;
      const extent = full * frameSectors + Math.ceil((64 + payloadBytes - full * chunk) / sectorBytes);
      return sum + temp + Math.ceil(extent / unitSectors) * unitSectors;
    }, 0);
    const entries = records.reduce((sum, { key }) => sum + 48 + Buffer.byteLength(key), 0);
    // A commit frame that takes no further entry has room for less than the longest.
    const perFrame = frameSectors * sectorBytes - 64 - 24 - (48 + 255);
    const groups = Math.floor(records.length / 32) + 1;
    return frames + Math.ceil((entries * frameSectors) / perFrame) + groups * (2 + unitSectors - 1);
  }

  const geometries = fc.constantFrom<[number, number]>([512, 512], [512, 4096], [4096, 4096], [1024, 2048]);

  test('is bounded from sums that additions and removals keep up, and told before a change as after it', () => {
    const name = 'is bounded from sums that additions and removals keep up, and told before a change as after it';
    const many = fc.array(record, { maxLength: 80 });
    const operations = fc.uniqueArray(fc.tuple(record, fc.boolean()), { selector: ([{ key }]) => key, maxLength: 5 });
    const property = fc.property(geometries, many, operations, ([sectorBytes, unitBytes], list, changes) => {
      const geometry = storeGeometry(sectorBytes, 8192, unitBytes);
      const space = spaceOn(geometry);
      // The index is not asked for here: one key may be there many times.
      for (const one of list) space.add(entryOf(one));
      expect(space.boundSectors).toBe(boundOf(list, geometry));
      const half = list.slice(list.length >> 1);
      for (const one of list.slice(0, list.length >> 1)) space.remove(entryOf(one));
      expect(space.boundSectors).toBe(boundOf(half, geometry));
      if (sectorBytes !== 512) return;
      const existing = new Map(half.map((one) => [one.key, one]));
      const after = space.boundAfter(
        changes.map(([one, isDelete]) => operationOf(one, isDelete)),
        (key) => (existing.has(key) ? entryOf(existing.get(key) as Record) : undefined),
      );
      for (const [{ key }] of changes) {
        const at = half.findLastIndex((one) => one.key === key);
        if (at >= 0) half.splice(at, 1);
      }
      half.push(...changes.flatMap(([one, isDelete]) => (isDelete ? [] : [one])));
      expect(after).toEqual({ keys: half.length, sectors: boundOf(half, geometry) });
      expect(space.fresh().boundSectors).toBe(0);
    });
    holdProperty(FILE, name, property, { numRuns: 60 });
  });

  test('is at least what compaction takes, whatever they are', () => {
    const name = 'is at least what compaction takes, whatever they are';
    const values = fc.array(fc.tuple(fc.nat({ max: 90 }), fc.constantFrom(0, 3, 400, 1800, 2000, 7000)), {
      minLength: 1,
      maxLength: 130,
      size: 'max',
    });
    const unit = fc.constantFrom(512, 4096);
    const property = fc.property(values, unit, (list, physical) => {
      const store = open(formatted(8192, 512, physical), { compaction: 'manual' });
      for (const [key, length] of list) store.put(`/state/${'k'.repeat(key * 2)}${key}`, bytes(length));
      store.compact();
      const { regionBytes, freeBytes, liveBytes } = store.stats();
      expect(regionBytes - freeBytes).toBeLessThanOrEqual(liveBytes);
    });
    holdProperty(FILE, name, property, { numRuns: 6 });
  });

  test('is kept free beside them: 16 deletions, of an eighth of a region at most, and of two at least', () => {
    for (const [sectorCount, unitBytes, deletes, sectors] of [
      [8192, 512, 16, 2],
      [528, 512, 16, 2],
      [526, 512, 15, 2],
      [48, 512, 2, 2],
      [8192, 4096, 16, 8],
      [528, 4096, 4, 8],
      [8192, 1024, 16, 2],
    ] as const) {
      const geometry = storeGeometry(512, sectorCount, unitBytes);
      for (const liveKeys of [0, 1, 2, 3, 15, 16, 17, 1000]) {
        expect(reservedSectors(geometry, liveKeys)).toBe(Math.min(liveKeys, deletes) * sectors);
      }
    }
  });
});

describe('a quota', () => {
  const operation = (key: string, payloadBytes: number, isDelete = false): GroupOperation =>
    operationOf({ key, payloadBytes, isLost: false }, isDelete).operation;

  test('lets in what reaches its hard limit, tells of what passes its soft one, and minds only what grows', () => {
    const quotas = checkQuotas([{ prefix: '/state/q', soft: { keys: 1, bytes: 30 }, hard: { keys: 2, bytes: 40 } }]);
    const counter = new QuotaCounter(quotas);
    const live = new Map<string, IndexEntry>();
    const put = (key: string, payloadBytes: number): void => {
      const entry = entryOf({ key, payloadBytes, isLost: false });
      const was = live.get(key);
      if (was !== undefined) counter.remove(was);
      counter.add(entry);
      live.set(key, entry);
    };
    const check = (...operations: GroupOperation[]) => counter.check(operations, (key) => live.get(key));
    const crossing = (resource: 'keys' | 'bytes', used: number) => ({
      prefix: '/state/q',
      resource,
      used,
      limit: resource === 'keys' ? 1 : 30,
    });
    // Keys of nine bytes.
    expect(check(operation('/state/q1', 21))).toEqual([]);
    expect(check(operation('/state/q1', 22))).toEqual([crossing('bytes', 31)]);
    expect(check(operation('/state/q1', 31))).toEqual([crossing('bytes', 40)]);
    expect(codeThrown(() => check(operation('/state/q1', 32)))).toBe('EDQUOT');
    expect(check(operation('/state/z', 1000))).toEqual([]);
    put('/state/q1', 21);
    expect(check(operation('/state/q2', 0))).toEqual([crossing('keys', 2), crossing('bytes', 39)]);
    expect(codeThrown(() => check(operation('/state/q2', 0), operation('/state/q3', 0)))).toBe('EDQUOT');
    expect(check(operation('/state/q2', 0), operation('/state/q1', 0, true))).toEqual([]);
    put('/state/q2', 1);
    // Past the soft limits already: told once.
    expect(check(operation('/state/q2', 1))).toEqual([]);
    expect(codeThrown(() => check(operation('/state/q2', 2)))).toBe('EDQUOT');
    put('/state/q2', 90);
    put('/state/q3', 90);
    // Past the hard ones: it may shrink, and stay.
    expect(check(operation('/state/q2', 90))).toEqual([]);
    expect(check(operation('/state/q2', 89))).toEqual([]);
    expect(check(operation('/state/q3', 0, true))).toEqual([]);
    expect(codeThrown(() => check(operation('/state/q2', 91)))).toBe('EDQUOT');
    expect(counter.usage()).toEqual([{ prefix: '/state/q', keys: 3, bytes: 27 + 21 + 180 }]);
    expect(counter.fresh().usage()).toEqual([{ prefix: '/state/q', keys: 0, bytes: 0 }]);
  });

  test('is copied when it is given, with what it says and nothing more', () => {
    const given = { prefix: '/state/', soft: { keys: 1 }, hard: { bytes: 2 } };
    const taken = checkQuotas([given, { prefix: '/state/a' }]);
    given.soft.keys = 100;
    given.hard.bytes = 100;
    expect(taken).toStrictEqual([{ prefix: '/state/', soft: { keys: 1 }, hard: { bytes: 2 } }, { prefix: '/state/a' }]);
    for (const level of ['soft', 'hard']) {
      for (const resource of ['keys', 'bytes']) {
        const wrong = (limit: unknown) => () =>
          checkQuotas([{ prefix: '/state/' }, { prefix: '/state/', [level]: { [resource]: limit } }]);
        expect(wrong(-1)).toThrow(RangeError);
        expect(wrong('1')).toThrow(TypeError);
        expect(wrong(0.5)).toThrow(`quotas[1].${level}.${resource}`);
        expect(wrong(0)).not.toThrow();
      }
    }
    for (const wrong of [null, 7]) expect(() => checkQuotas([wrong as unknown as Quota])).toThrow(TypeError);
    expect(() => checkQuotas([null as unknown as Quota])).toThrow(/quotas\[0\]: expected an object/);
  });
});
