import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { format, MAX_GROUP_OPERATIONS, open, type StoreEvent } from '../../src/statefs/index.ts';
import { holdProperty } from '../property/replay.ts';
import { bytes, codeThrown, deviceOf, FailingDevice, formatted, imageOf, ioError, reopen } from './helpers.ts';

const FILE = 'test/statefs/compaction.test.ts';
const SECTOR = 512;

describe('compaction', () => {
  it('moves what is live to the other region, and leaves every record as it was', () => {
    const device = formatted(2048);
    const store = open(device, { compaction: 'manual' });
    for (let version = 0; version < 5; version++) {
      for (let i = 0; i < 10; i++) store.putAtomic(`/state/${i}`, bytes(50 + 400 * i, version));
    }
    store.transaction((tx) => {
      for (let i = 20; i < 25; i++) tx.put(`/state/${i}`, bytes(3000, i));
    });
    store.delete('/state/3');
    const before = store.list().map((key) => store.stat(key));
    const { freeBytes } = store.stats();
    store.compact();
    expect(store.stats().freeBytes).toBeGreaterThan(freeBytes + 50_000);
    for (const s of [store, reopen(device)]) {
      expect(s.list().map((key) => s.stat(key))).toEqual(before);
      for (let i = 0; i < 10; i++) if (i !== 3) expect(s.get(`/state/${i}`)).toEqual(bytes(50 + 400 * i, 4));
      for (let i = 20; i < 25; i++) expect(s.get(`/state/${i}`)).toEqual(bytes(3000, i));
      expect(s.stats().damage).toEqual([]);
    }
    // And back, any number of times; new numbers are higher than all before.
    for (let i = 0; i < 5; i++) {
      store.compact();
      store.putAtomic('/state/new', bytes(i));
      expect(store.stat('/state/new').sequence).toBeGreaterThan(Math.max(...before.map(({ sequence }) => sequence)));
    }
    expect(reopen(device).get('/state/0')).toEqual(bytes(50, 4));
  });

  it('goes on in bounded steps while keys change', () => {
    const device = new FailingDevice(formatted(4096));
    const store = open(device, { compaction: 'manual' });
    for (let i = 0; i < 200; i++) store.put(`/state/${i}`, bytes(100, i));
    store.sync();
    let steps = 0;
    let isDone = false;
    let longest = 0;
    while (!isDone) {
      const { writes } = device;
      isDone = store.compactStep(8 * SECTOR);
      longest = Math.max(longest, device.writes - writes);
      store.putAtomic(`/state/${steps * 7}`, bytes(3, steps));
      store.delete(`/state/${steps * 7 + 1}`);
      steps++;
      expect(steps).toBeLessThan(200);
    }
    expect(steps).toBeGreaterThan(10);
    const later = reopen(device);
    for (let i = 0; i < 200; i++) {
      const step = Math.floor(i / 7);
      if (i % 7 === 1 && step < steps) expect(later.has(`/state/${i}`)).toBe(false);
      else expect(later.get(`/state/${i}`)).toEqual(i % 7 === 0 && step < steps ? bytes(3, step) : bytes(100, i));
    }
  });

  it.each([
    ['deleted', ['delete']],
    ['replaced, then deleted', ['put', 'delete']],
    ['deleted, put and deleted again', ['delete', 'put', 'delete']],
  ])('a record that is %s while it goes on stays away, whatever was copied by then', (_name, changes) => {
    // Before each step of the copy, and between any two changes as many steps again.
    for (let before = 0; before < 12; before++) {
      for (let between = 0; between < 4; between++) {
        const device = formatted(4096);
        const store = open(device, { compaction: 'manual' });
        for (let i = 0; i < 8; i++) store.put(`/state/${i}`, bytes(600, i));
        let isDone = false;
        const step = (count: number): void => {
          for (let i = 0; i < count && !isDone; i++) isDone = store.compactStep(1);
        };
        step(before);
        for (const change of changes) {
          if (change === 'put') store.putAtomic('/state/3', bytes(900, 9));
          else store.delete('/state/3');
          step(between);
        }
        step(Number.POSITIVE_INFINITY);
        expect(store.has('/state/3'), `${before} steps, then ${between}`).toBe(false);
        expect(reopen(device).list()).toEqual([0, 1, 2, 4, 5, 6, 7].map((i) => `/state/${i}`));
      }
    }
  });

  it('begins by itself, and a put pays only for a part of it', () => {
    const device = formatted(2048);
    let written = 0;
    const counting = new FailingDevice(device);
    const write = counting.write.bind(counting);
    counting.write = (sector, source) => {
      written += source.length;
      write(sector, source);
    };
    const store = open(counting);
    for (let i = 0; i < 100; i++) store.put(`/state/live/${i}`, bytes(100, i));
    let longest = 0;
    for (let i = 0; i < 3000; i++) {
      const before = written;
      store.put(`/state/hot/${i % 4}`, bytes(64, i));
      longest = Math.max(longest, written - before);
    }
    expect(store.stats().compactions).toBeGreaterThan(3);
    // The live records take some 60 KiB; the largest group of them 38 sectors and more.
    expect(longest).toBeLessThan(48 * 1024);
    expect(reopen(counting).list()).toHaveLength(104);
  });

  it('a store that was killed in the midst of it loses the work and nothing else', () => {
    const device = formatted(1024);
    const store = open(device, { compaction: 'manual' });
    for (let i = 0; i < 60; i++) store.put(`/state/${i % 30}`, bytes(100, i));
    store.sync();
    store.compactStep(4096);
    for (let life = 0; life < 4; life++) {
      const next = reopen(device, { compaction: 'manual' });
      for (let i = 0; i < 30; i++) expect(next.get(`/state/${i}`)).toEqual(bytes(100, 30 + i));
      next.compactStep(4096 * (life + 1));
    }
    const last = reopen(device, { compaction: 'manual' });
    last.compact();
    for (let i = 0; i < 30; i++) expect(reopen(device).get(`/state/${i}`)).toEqual(bytes(100, 30 + i));
  });

  it('is told by events', () => {
    const events: StoreEvent[] = [];
    const store = open(formatted(), { compaction: 'manual', onEvent: (event) => events.push(event) });
    store.putAtomic('/state/a', bytes(10));
    store.compact();
    const phases = events.flatMap((event) => (event.type === 'compaction' ? [event.phase] : []));
    expect(phases).toEqual(['started', 'finished']);
    expect(store.stats()).toMatchObject({ compactions: 1, compacting: false });
  });
});

describe('compaction in any steps, with any changes between them', () => {
  const KEYS = Array.from({ length: 12 }, (_, i) => `/state/${i}`);
  const key = fc.constantFrom(...KEYS);
  const length = fc.constantFrom(0, 3, 600, 1700, 2100, 5000, 9000);
  const change = fc.oneof(
    { arbitrary: fc.record({ what: fc.constant('put' as const), key, length }), weight: 3 },
    { arbitrary: fc.record({ what: fc.constant('delete' as const), key }), weight: 2 },
    {
      arbitrary: fc.record({
        what: fc.constant('transaction' as const),
        puts: fc.uniqueArray(key, { maxLength: 6 }),
        deletes: fc.uniqueArray(key, { maxLength: 3 }),
        length,
      }),
      weight: 2,
    },
    { arbitrary: fc.record({ what: fc.constant('step' as const), count: fc.integer({ min: 1, max: 9 }) }), weight: 6 },
    { arbitrary: fc.record({ what: fc.constantFrom('compact' as const, 'reopen' as const) }), weight: 1 },
  );

  test('leaves each value, its number and its metadata as they were, on the disk as in memory', () => {
    const name = 'leaves each value, its number and its metadata as they were, on the disk as in memory';
    const property = fc.property(fc.array(change, { maxLength: 50, size: 'max' }), fc.boolean(), (changes, is4k) => {
      const device = formatted(4096, 512, is4k ? 4096 : 512);
      const options = { compaction: 'manual' } as const;
      let store = open(device, options);
      const model = new Map<string, { value: Uint8Array; sequence: number; ts: number }>();
      let sequence = 0;
      const putAll = (keys: readonly string[], bytesOf: () => Uint8Array, ts: number): void => {
        for (const one of keys) {
          model.delete(one);
          model.set(one, { value: bytesOf(), sequence, ts });
        }
      };
      const check = (one: typeof store): void => {
        expect(one.list()).toEqual([...model.keys()].sort());
        for (const [at, { value, sequence: wrote, ts }] of model) {
          expect(Buffer.compare(one.get(at), value), at).toBe(0);
          expect(one.stat(at)).toMatchObject({ sequence: wrote, meta: { ts } });
        }
        expect(one.stats().damage).toEqual([]);
      };
      for (const [i, one] of changes.entries()) {
        if (one.what === 'put') {
          sequence++;
          store.put(one.key, bytes(one.length, i), { meta: { ts: i } });
          putAll([one.key], () => bytes(one.length, i), i);
        } else if (one.what === 'delete') {
          if (store.delete(one.key, { durable: false })) sequence++;
          model.delete(one.key);
        } else if (one.what === 'transaction') {
          const deletes = one.deletes.filter((at) => !one.puts.includes(at));
          if (one.puts.length > 0 || deletes.some((at) => model.has(at))) sequence++;
          store.transaction(
            (tx) => {
              for (const at of deletes) tx.delete(at);
              for (const at of one.puts) tx.put(at, bytes(one.length, i), { meta: { ts: i } });
            },
            { durable: false },
          );
          for (const at of deletes) model.delete(at);
          putAll(one.puts, () => bytes(one.length, i), i);
        } else if (one.what === 'step') {
          for (let step = 0; step < one.count; step++) store.compactStep(1);
        } else if (one.what === 'compact') {
          store.compact();
        } else {
          store = open(device, options);
        }
        expect(store.stats().lastSequence).toBe(sequence);
      }
      check(store);
      check(open(device));
      store.compact();
      check(store);
      check(open(device));
      expect(store.stats().lastSequence).toBe(sequence);
    });
    holdProperty(FILE, name, property, { numRuns: 25 });
  });
});

describe('space', () => {
  it('of dead records comes back by itself: a small store takes any number of puts', () => {
    const device = formatted(128);
    const store = open(device);
    for (let i = 0; i < 2000; i++) store.putAtomic(`/state/${i % 3}`, bytes(200, i));
    expect(store.stats().compactions).toBeGreaterThan(20);
    for (let i = 1997; i < 2000; i++) expect(reopen(device).get(`/state/${i % 3}`)).toEqual(bytes(200, i));
  });

  it('that only live records take is full, and is free again after deletions', () => {
    const device = formatted(256);
    const store = open(device);
    const fill = (): number => {
      for (let i = 0; ; i++) {
        const code = codeThrown(() => store.putAtomic(`/state/${i}`, bytes(400, i)));
        if (code === 'none') continue;
        expect(code).toBe('ENOSPC');
        return i;
      }
    };
    const count = fill();
    expect(count).toBeGreaterThan(30);
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < count; i++) expect(store.delete(`/state/${i}`)).toBe(true);
      expect(store.list()).toEqual([]);
      expect(fill()).toBe(count);
    }
    for (let i = 0; i < count; i++) expect(reopen(device).get(`/state/${i}`)).toEqual(bytes(400, i));
  });

  it('a transaction of the largest size fits where its bytes do', () => {
    const store = open(formatted(2048));
    for (let round = 0; round < 12; round++) {
      store.transaction((tx) => {
        for (let i = 0; i < MAX_GROUP_OPERATIONS; i++) tx.put(`/state/${i}`, bytes(1000, round));
      });
    }
    expect(store.get('/state/63')).toEqual(bytes(1000, 11));
  });
});

describe('failing and damaged media', () => {
  it('an I/O error on the way gives compaction up; the store goes on where it was', () => {
    for (const kind of ['read', 'write'] as const) {
      const device = new FailingDevice(formatted(1024));
      const events: StoreEvent[] = [];
      const store = open(device, { compaction: 'manual', onEvent: (event) => events.push(event) });
      for (let i = 0; i < 40; i++) store.putAtomic(`/state/${i % 10}`, bytes(700, i));
      let count = 0;
      device.before = (now) => now === kind && ++count > (kind === 'read' ? 5 : 1) && ioError();
      expect(codeThrown(() => store.compact())).toBe('EIO');
      device.before = () => {};
      expect(events.at(-1)).toMatchObject({ type: 'compaction', phase: 'abandoned' });
      expect(store.isLatched).toBe(false);
      store.putAtomic('/state/after', bytes(1));
      store.compact();
      const later = reopen(device);
      for (let i = 0; i < 10; i++) expect(later.get(`/state/${i}`)).toEqual(bytes(700, 30 + i));
    }
  });

  it('an I/O error of the move itself latches, and reopening finds one log or the other', () => {
    for (let nth = 1; nth <= 4; nth++) {
      const device = new FailingDevice(formatted(1024));
      const store = open(device, { compaction: 'manual' });
      for (let i = 0; i < 8; i++) store.putAtomic(`/state/${i % 4}`, bytes(300, i));
      let flushes = 0;
      // The first flush is that of the epoch.
      device.before = (kind) => kind === 'flush' && ++flushes === nth && ioError();
      expect(codeThrown(() => store.compact())).toBe('EIO');
      device.before = () => {};
      expect(store.isLatched).toBe(true);
      const later = reopen(device);
      for (let i = 0; i < 4; i++) expect(later.get(`/state/${i}`)).toEqual(bytes(300, 4 + i));
    }
  });

  it('a record that is damaged stays reported over any number of moves, until it is put again', () => {
    const device = formatted(1024);
    const first = open(device, { compaction: 'manual' });
    first.putAtomic('/state/small', bytes(40));
    first.putAtomic('/state/large', bytes(5000, 2));
    first.putAtomic('/state/good', bytes(50, 3));
    first.close();
    const image = imageOf(device);
    // The inline value, and a frame of the extent.
    image[16 * SECTOR + 150] = (image[16 * SECTOR + 150] as number) ^ 1;
    const end = 16 + 504;
    image[(end - 3) * SECTOR + 100] = (image[(end - 3) * SECTOR + 100] as number) ^ 1;
    const damaged = deviceOf(image);
    const store = open(damaged, { compaction: 'manual' });
    for (let move = 0; move < 3; move++) {
      store.compact();
      for (const s of [store, reopen(damaged)]) {
        expect(codeThrown(() => s.get('/state/small'))).toBe('EINTEGRITY');
        expect(codeThrown(() => s.get('/state/large'))).toBe('EINTEGRITY');
        expect(s.get('/state/good')).toEqual(bytes(50, 3));
        expect(s.list()).toEqual(['/state/good', '/state/large', '/state/small']);
      }
    }
    store.putAtomic('/state/small', bytes(41));
    store.delete('/state/large');
    store.compact();
    expect(reopen(damaged).list()).toEqual(['/state/good', '/state/small']);
    expect(reopen(damaged).get('/state/small')).toEqual(bytes(41));
  });

  it('what a lost group made suspect stays so after a move', () => {
    const device = formatted(1024);
    const first = open(device, { compaction: 'manual' });
    for (const key of ['a', 'b', 'c']) first.putAtomic(`/state/${key}`, bytes(30));
    first.close();
    const image = imageOf(device);
    image.fill(0, 18 * SECTOR, 20 * SECTOR);
    const damaged = deviceOf(image);
    const store = open(damaged, { compaction: 'manual' });
    store.compact();
    for (const s of [store, reopen(damaged)]) {
      expect(codeThrown(() => s.get('/state/a'))).toBe('EINTEGRITY');
      expect(s.get('/state/c')).toEqual(bytes(30));
      expect(codeThrown(() => s.get('/state/unheard-of'))).toBe('EINTEGRITY');
    }
    expect(reopen(damaged).stats().damage).toHaveLength(1);
  });

  it('after a move, losing either superblock copy loses nothing', () => {
    const device = formatted(1024);
    const store = open(device, { compaction: 'manual' });
    for (let i = 0; i < 20; i++) store.putAtomic(`/state/${i % 5}`, bytes(60, i));
    for (let move = 0; move < 3; move++) {
      store.compact();
      for (let later = 0; later < 2; later++) {
        const image = imageOf(device);
        for (const copy of [0, 8]) {
          const damaged = image.slice();
          damaged.fill(0xee, copy * SECTOR, (copy + 1) * SECTOR);
          const found = reopen(deviceOf(damaged));
          for (let i = 0; i < 5; i++) expect(found.get(`/state/${i}`)).toEqual(bytes(60, 15 + i));
          expect(found.has('/state/later')).toBe(later === 1 || move > 0);
        }
        store.putAtomic('/state/later', bytes(7));
      }
    }
  });
});

describe('one flipped bit in a store that was moved', () => {
  const device = formatted(256);
  const store = open(device, { compaction: 'manual' });
  for (let i = 0; i < 16; i++) store.putAtomic(`/state/${i % 8}`, bytes(i === 12 ? 2200 : 30, i));
  store.compact();
  store.putAtomic('/state/0', bytes(31, 99));
  store.close();
  const image = imageOf(device);

  test('gives the right bytes or EINTEGRITY, for one key at most', () => {
    let detected = 0;
    // The active region is the second one.
    for (let at = 136 * SECTOR; at < image.length; at += 7) {
      const sector = at - (at % SECTOR);
      if (image.subarray(sector, sector + SECTOR).every((byte) => byte === 0)) continue;
      const flipped = image.slice();
      flipped[at] = (flipped[at] as number) ^ (1 << (at % 8));
      const found = reopen(deviceOf(flipped));
      const damaged = Array.from({ length: 8 }, (_, i) => i).filter((i) => {
        const code = codeThrown(() => {
          const expected = i === 0 ? bytes(31, 99) : bytes(i === 4 ? 2200 : 30, 8 + i);
          expect(Buffer.compare(found.get(`/state/${i}`), expected)).toBe(0);
        });
        expect(['none', 'EINTEGRITY'], `byte ${at}`).toContain(code);
        return code !== 'none';
      });
      expect(damaged.length, `byte ${at}: ${damaged}`).toBeLessThanOrEqual(1);
      expect(found.list(), `byte ${at}`).toHaveLength(8);
      detected += damaged.length;
    }
    expect(detected).toBeGreaterThan(100);
  });
});

describe('images of the first format', () => {
  it('open, and move', () => {
    const golden = new Uint8Array(gunzipSync(readFileSync(new URL('./golden/v1.img.gz', import.meta.url))));
    const device = deviceOf(golden);
    const store = open(device);
    const before = store.list().map((key) => [store.stat(key), store.get(key)]);
    store.compact();
    const later = reopen(device);
    expect(later.list().map((key) => [later.stat(key), later.get(key)])).toEqual(before);
    // A reader of that time refuses what it would not understand.
    expect([golden[12], imageOf(device)[12]]).toEqual([0, 1]);
  });
});

describe('old frames', () => {
  it('of another store that used the partition before stay away after any move', () => {
    const device = formatted(256);
    const old = open(device);
    for (let i = 0; i < 200; i++) old.putAtomic(`/state/old/${i % 9}`, bytes(300, i));
    format(device, { storeId: new Uint8Array(16).fill(0x11) });
    const store = open(device, { compaction: 'manual' });
    for (let move = 0; move < 4; move++) {
      store.putAtomic(`/state/new/${move}`, bytes(10, move));
      store.compact();
      expect(
        reopen(device)
          .list()
          .every((key) => key.startsWith('/state/new/')),
      ).toBe(true);
    }
    expect(reopen(device).list()).toHaveLength(4);
  });
});
