import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { VirtualClock } from '../../src/core/index.ts';
import { type CommitMode, MAX_GROUP_OPERATIONS, open, type Transaction } from '../../src/statefs/index.ts';
import { holdProperty } from '../property/replay.ts';
import { bytes, codeThrown, deviceOf, FailingDevice, formatted, imageOf, ioError, reopen } from './helpers.ts';

const FILE = 'test/statefs/transaction.test.ts';
const modes: CommitMode[] = ['ordered', 'checksummed'];
const longKey = (i: number): string => `/state/${String(i).padStart(248, 'k')}`;

describe.each(modes)('a transaction, %s,', (commit) => {
  it('takes effect as a whole, and is there after reopening', () => {
    const device = formatted(2048);
    const store = open(device, { commit });
    store.putAtomic('/state/gone', bytes(10));
    const result = store.transaction((tx) => {
      tx.put('/state/a', bytes(20));
      tx.put('/state/b', bytes(5000, 2));
      expect(tx.delete('/state/gone')).toBe(true);
      return 'done';
    });
    expect(result).toBe('done');
    for (const s of [store, reopen(device)]) {
      expect(s.list()).toEqual(['/state/a', '/state/b']);
      expect(s.get('/state/a')).toEqual(bytes(20));
      expect(s.get('/state/b')).toEqual(bytes(5000, 2));
      expect(s.stat('/state/a').sequence).toBe(s.stat('/state/b').sequence);
      expect(s.stats().damage).toEqual([]);
    }
  });

  it('holds up to 64 operations, however long their keys', () => {
    const device = formatted(8192);
    const store = open(device, { commit });
    const keys = Array.from({ length: MAX_GROUP_OPERATIONS }, (_, i) => longKey(i));
    store.transaction((tx) => {
      for (const [i, key] of keys.entries()) tx.put(key, bytes(i * 30, i));
    });
    store.putAtomic('/state/after', bytes(1));
    store.transaction((tx) => {
      for (const key of keys.slice(0, 40)) tx.delete(key);
    });
    const later = reopen(device);
    expect(later.list()).toEqual(['/state/after', ...keys.slice(40)].sort());
    for (const [i, key] of keys.entries()) if (i >= 40) expect(later.get(key)).toEqual(bytes(i * 30, i));
    expect(later.stats().damage).toEqual([]);
  });

  it('costs the flushes of one put', () => {
    const device = new FailingDevice(formatted());
    const store = open(device, { commit });
    store.putAtomic('/state/first', bytes(1));
    const { flushes } = device;
    store.transaction((tx) => {
      for (let i = 0; i < 4; i++) tx.put(`/state/k${i}`, bytes(100, i));
    });
    expect(device.flushes - flushes).toBe(commit === 'ordered' ? 2 : 1);
  });
});

describe('inside a transaction', () => {
  it('reads see its own writes, and the store sees none of them', () => {
    const store = open(formatted());
    store.putAtomic('/state/a', bytes(3));
    const tx = store.begin();
    const value = bytes(4, 2);
    tx.put('/state/a', value);
    value.fill(0);
    expect(tx.get('/state/a')).toEqual(bytes(4, 2));
    tx.get('/state/a').fill(0);
    expect(tx.get('/state/a')).toEqual(bytes(4, 2));
    tx.put('/state/b', bytes(5));
    expect([tx.has('/state/b'), store.has('/state/b')]).toEqual([true, false]);
    expect(tx.delete('/state/a')).toBe(true);
    expect(tx.delete('/state/a')).toBe(false);
    expect(codeThrown(() => tx.get('/state/a'))).toBe('ENOENT');
    expect(store.get('/state/a')).toEqual(bytes(3));
    expect(codeThrown(() => tx.get('/state/none'))).toBe('ENOENT');
    tx.commit();
    expect(tx.state).toBe('committed');
    expect(store.list()).toEqual(['/state/b']);
  });

  it('a throw leaves no trace, on the disk neither', () => {
    const device = new FailingDevice(formatted());
    const store = open(device);
    store.putAtomic('/state/a', bytes(3));
    const { writes } = device;
    const failing = (): void =>
      store.transaction((tx) => {
        tx.put('/state/a', bytes(9));
        tx.put('/state/b', bytes(9));
        throw new Error('changed my mind');
      });
    for (let i = 0; i < 50; i++) expect(failing).toThrow('changed my mind');
    expect(device.writes).toBe(writes);
    expect(store.get('/state/a')).toEqual(bytes(3));
    expect(store.list()).toEqual(['/state/a']);
  });

  it('an abandoned one writes nothing, and is gone after a restart', () => {
    const device = new FailingDevice(formatted());
    const store = open(device);
    store.putAtomic('/state/a', bytes(3));
    const before = imageOf(device);
    store.begin().put('/state/a', bytes(200_000));
    expect(Buffer.compare(imageOf(device), before)).toBe(0);
    expect(reopen(device).get('/state/a')).toEqual(bytes(3));
  });

  it('an empty one, and one that deletes what is not there, write nothing', () => {
    const device = new FailingDevice(formatted());
    const store = open(device);
    store.putAtomic('/state/a', bytes(3));
    const { writes } = device;
    store.transaction(() => {});
    store.transaction((tx) => tx.delete('/state/none'));
    expect(device.writes).toBe(writes);
  });

  it('is over once it has ended', () => {
    const store = open(formatted());
    const done = store.begin();
    done.put('/state/a', bytes(1));
    done.commit();
    const given = store.begin();
    given.put('/state/a', bytes(2));
    given.abort();
    given.abort();
    for (const tx of [done, given]) {
      for (const run of [() => tx.put('/state/a', bytes(1)), () => tx.get('/state/a'), () => tx.commit()]) {
        expect(codeThrown(run)).toBe('EINVAL');
      }
    }
    expect(store.get('/state/a')).toEqual(bytes(1));
  });

  it('refuses an asynchronous function, and commits none of it', () => {
    const store = open(formatted());
    const run = (): unknown =>
      store.transaction(async (tx) => {
        tx.put('/state/a', bytes(1));
      });
    expect(run).toThrow(TypeError);
    expect(store.list()).toEqual([]);
  });
});

describe('a transaction of any changes', () => {
  const KEYS = ['a', 'b', 'ü', 'there', 'too'].map((name) => `/state/${name}`);
  const change = fc.record({
    what: fc.constantFrom('put', 'put', 'delete', 'read' as const),
    key: fc.constantFrom(...KEYS),
    length: fc.nat({ max: 40 }),
  });
  /** Changes that stand alone, or are tried together and then kept or thrown away. */
  const part = fc.record({
    how: fc.constantFrom('plain', 'kept', 'thrown' as const),
    changes: fc.array(change, { minLength: 1, maxLength: 6 }),
  });

  it('shows, counts and commits what was changed and not undone', () => {
    const name = 'shows, counts and commits what was changed and not undone';
    const property = fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
      const store = open(formatted(2048));
      let model = new Map<string, Uint8Array>();
      for (const key of KEYS.slice(3)) {
        model.set(key, bytes(7));
        store.put(key, bytes(7));
      }
      const before = new Map(model);
      const tx = store.begin();
      // What each changed key holds of the budget: its bytes, and those of its value.
      let held = new Map<string, number>();
      let seed = 0;
      const make = ({ what, key, length }: typeof change extends fc.Arbitrary<infer T> ? T : never): void => {
        expect(tx.has(key)).toBe(model.has(key));
        if (what === 'put') {
          const value = bytes(length, ++seed);
          tx.put(key, value);
          model.set(key, value);
          held.set(key, Buffer.byteLength(key) + length);
        } else if (what === 'delete') {
          expect(tx.delete(key)).toBe(model.delete(key));
          held.set(key, Buffer.byteLength(key));
        } else if (model.has(key)) {
          expect(tx.get(key)).toEqual(model.get(key));
        } else {
          expect(codeThrown(() => tx.get(key))).toBe('ENOENT');
        }
        expect(tx.size).toBe(held.size);
        expect(tx.bytes).toBe([...held.values()].reduce((sum, one) => sum + one, 0));
      };
      for (const { how, changes } of parts) {
        if (how === 'plain') {
          changes.forEach(make);
          continue;
        }
        const [wasModel, wasHeld] = [new Map(model), new Map(held)];
        const run = (): unknown =>
          tx.attempt(() => {
            changes.forEach(make);
            if (how === 'thrown') throw new RangeError('no');
            return seed;
          });
        if (how === 'kept') {
          expect(run()).toBe(seed);
        } else {
          expect(run).toThrow(RangeError);
          [model, held] = [wasModel, wasHeld];
        }
        expect(tx.size).toBe(held.size);
        expect(tx.bytes).toBe([...held.values()].reduce((sum, one) => sum + one, 0));
      }
      for (const key of KEYS) expect(store.has(key)).toBe(before.has(key));
      tx.commit();
      expect(tx.state).toBe('committed');
      expect(store.list()).toEqual([...model.keys()].sort());
      for (const [key, value] of model) expect(store.get(key)).toEqual(value);
    });
    holdProperty(FILE, name, property, { numRuns: 40 });
  });

  it('tries one thing at a time, at once, and only while it is open', () => {
    const store = open(formatted());
    const tx = store.begin();
    expect(codeThrown(() => tx.attempt(() => tx.attempt(() => 1)))).toBe('EINVAL');
    expect(() =>
      tx.attempt(async () => {
        tx.put('/state/a', bytes(1));
      }),
    ).toThrow(TypeError);
    expect([tx.size, tx.bytes]).toEqual([0, 0]);
    expect(tx.attempt(() => 7)).toBe(7);
    tx.put('/state/b', bytes(2));
    expect(tx.state).toBe('open');
    tx.commit();
    for (const call of [
      () => tx.attempt(() => 7),
      () => tx.has('/state/a'),
      () => tx.get('/state/b'),
      () => tx.put('/state/a', bytes(1)),
      () => tx.delete('/state/b'),
      () => tx.commit(),
    ]) {
      expect(codeThrown(call)).toBe('EINVAL');
    }
    tx.abort();
    expect(tx.state).toBe('committed');
    expect(store.list()).toEqual(['/state/b']);
  });

  it('checks keys and values as the store does, and keeps what it took before', () => {
    const store = open(formatted(), { budgets: { payloadBytes: 50, transactionBytes: 100, openTransactions: 1 } });
    const tx = store.begin();
    tx.put('/state/a', bytes(50));
    for (const key of ['/other', '/state/', `/state/${'x'.repeat(300)}`]) {
      const code = key.length > 255 ? 'E2BIG' : 'EINVAL';
      for (const call of [() => tx.get(key), () => tx.has(key), () => tx.put(key, bytes(1)), () => tx.delete(key)]) {
        expect(codeThrown(call)).toBe(code);
      }
    }
    expect(() => tx.put('/state/b', 'text' as unknown as Uint8Array)).toThrow(TypeError);
    expect(codeThrown(() => tx.put('/state/b', bytes(51)))).toBe('E2BIG');
    // 58 bytes are held: 42 are left, eight of them for a key.
    expect(codeThrown(() => tx.put('/state/b', bytes(35)))).toBe('E2BIG');
    expect(tx.bytes).toBe(58);
    tx.put('/state/b', bytes(34));
    expect(tx.bytes).toBe(100);
    expect(codeThrown(() => tx.delete('/state/c'))).toBe('E2BIG');
    tx.put('/state/b', bytes(30));
    expect(codeThrown(() => store.begin())).toBe('EBUSY');
    // One that fails to commit is over, and makes room.
    tx.commit();
    const late = store.begin();
    late.has('/state/a');
    store.putAtomic('/state/a', bytes(1));
    expect(codeThrown(() => late.commit())).toBe('EBUSY');
    expect(late.state).toBe('aborted');
    store.begin().abort();
    expect(store.get('/state/b')).toEqual(bytes(30));
  });
});

describe('two transactions at a time', () => {
  const race = (first: (tx: Transaction) => void, second: (tx: Transaction) => void): string => {
    const store = open(formatted());
    store.putAtomic('/state/a', bytes(1));
    const [a, b] = [store.begin(), store.begin()];
    first(a);
    second(b);
    a.commit();
    return codeThrown(() => b.commit());
  };

  it('the later one is refused where it read what the earlier one changed', () => {
    const write = (tx: Transaction): void => tx.put('/state/a', bytes(2));
    const readThenWrite = (tx: Transaction, read: 'get' | 'has'): void => {
      tx[read]('/state/a');
      tx.put('/state/b', bytes(1));
    };
    expect(race(write, (tx) => readThenWrite(tx, 'get'))).toBe('EBUSY');
    expect(race(write, (tx) => readThenWrite(tx, 'has'))).toBe('EBUSY');
    expect(
      race(
        (tx) => void tx.delete('/state/a'),
        (tx) => void tx.delete('/state/a'),
      ),
    ).toBe('EBUSY');
    expect(
      race(
        (tx) => tx.put('/state/new', bytes(1)),
        (tx) => void tx.has('/state/new'),
      ),
    ).toBe('EBUSY');
  });

  it('others do not hinder each other; the last write wins', () => {
    expect(
      race(
        (tx) => tx.put('/state/a', bytes(2)),
        (tx) => tx.put('/state/a', bytes(3)),
      ),
    ).toBe('none');
    expect(
      race(
        (tx) => tx.put('/state/b', bytes(2)),
        (tx) => void tx.get('/state/a'),
      ),
    ).toBe('none');
  });
});

describe('bounds of transactions', () => {
  it('name themselves, before anything is written', () => {
    const device = new FailingDevice(formatted());
    const store = open(device, { budgets: { transactionBytes: 1000, openTransactions: 2, payloadBytes: 900 } });
    const tx = store.begin();
    tx.put('/state/a', bytes(500));
    expect(() => tx.put('/state/b', bytes(600))).toThrow(/transactionBytes/);
    expect(() => tx.put('/state/b', bytes(901))).toThrow(/payload|transactionBytes/);
    // Replacing counts once.
    for (let i = 0; i < 10; i++) tx.put('/state/a', bytes(800, i));
    expect(tx.bytes).toBe(808);
    const other = store.begin();
    expect(() => store.begin()).toThrow(/2 are open/);
    expect(codeThrown(() => store.begin())).toBe('EBUSY');
    other.abort();
    const many = store.begin();
    for (let i = 0; i < MAX_GROUP_OPERATIONS; i++) many.put(`/state/${i}`, bytes(0));
    expect(() => many.put('/state/more', bytes(0))).toThrow(/64 keys/);
    expect(codeThrown(() => many.put('/state/more', bytes(0)))).toBe('E2BIG');
    expect(device.writes).toBe(0);
    many.put('/state/0', bytes(1));
    many.commit();
    tx.commit();
    expect(reopen(device).list()).toHaveLength(MAX_GROUP_OPERATIONS + 1);
  });

  it('too large for the store: ENOSPC, nothing written, everything there', () => {
    const device = new FailingDevice(formatted(256));
    const store = open(device);
    store.putAtomic('/state/a', bytes(3));
    const { writes } = device;
    const code = codeThrown(() =>
      store.transaction((tx) => {
        tx.put('/state/a', bytes(30_000));
        tx.put('/state/b', bytes(30_000));
      }),
    );
    expect([code, device.writes]).toEqual(['ENOSPC', writes]);
    expect(store.get('/state/a')).toEqual(bytes(3));
  });

  it.each(modes)('past its deadline it leaves the old values (%s)', (commit) => {
    const clock = new VirtualClock();
    const device = new FailingDevice(formatted());
    const store = open(device, { clock, commit });
    store.putAtomic('/state/a', bytes(3));
    device.before = (kind) => kind === 'write' && clock.advance(20);
    const change = (tx: Transaction): void => {
      tx.put('/state/a', bytes(3000));
      tx.put('/state/b', bytes(4));
    };
    expect(codeThrown(() => store.transaction(change, { deadlineMs: 10 }))).toBe('EDEADLINE');
    device.before = () => {};
    for (const s of [store, reopen(device)]) expect(s.list()).toEqual(['/state/a']);
  });

  it('latches like a put when the commit itself fails', () => {
    const device = new FailingDevice(formatted());
    const store = open(device);
    store.putAtomic('/state/a', bytes(3));
    device.before = (kind) => kind === 'flush' && ioError();
    const change = (tx: Transaction): void => {
      tx.put('/state/a', bytes(4));
      tx.put('/state/b', bytes(4));
    };
    expect(codeThrown(() => store.transaction(change))).toBe('EIO');
    device.before = () => {};
    expect(() => store.begin()).toThrow(/in doubt/);
    const [a, b] = ['/state/a', '/state/b'].map((key) => reopen(device).has(key) && reopen(device).get(key).length);
    expect([[3, false].join(), [4, 4].join()]).toContain([a, b].join());
  });
});

describe('group commit', () => {
  it('operations that are not durable by themselves share one flush', () => {
    const device = new FailingDevice(formatted());
    const store = open(device);
    store.putAtomic('/state/first', bytes(1));
    const { flushes } = device;
    for (let writer = 0; writer < 8; writer++) {
      store.transaction((tx) => tx.put(`/state/w${writer}`, bytes(writer)), { durable: false });
    }
    store.put('/state/p', bytes(1));
    expect(store.delete('/state/first', { durable: false })).toBe(true);
    expect(device.flushes).toBe(flushes);
    store.sync();
    expect(device.flushes).toBe(flushes + 1);
    expect(reopen(device).list()).toHaveLength(9);
  });
});

describe('damage to a transaction that was committed', () => {
  const device = formatted(1024);
  const store = open(device);
  const keys = Array.from({ length: 9 }, (_, i) => longKey(i));
  store.putAtomic('/state/before', bytes(7));
  store.transaction((tx) => {
    for (const [i, key] of keys.entries()) tx.put(key, bytes(10, i));
  });
  store.putAtomic('/state/after', bytes(8));
  store.close();
  const image = imageOf(device);

  test('one sector costs at most its own key, and is told', () => {
    for (let sector = 16; sector < 18 + 9 + 6; sector++) {
      const damaged = image.slice();
      damaged.fill(0, sector * 512, (sector + 1) * 512);
      const found = reopen(deviceOf(damaged));
      expect(found.get('/state/after')).toEqual(bytes(8));
      const codes = keys.map((key) => codeThrown(() => found.get(key))).filter((code) => code !== 'none');
      expect(codes.length, `sector ${sector}`).toBeLessThanOrEqual(1);
      for (const code of codes) expect(code).toBe('EINTEGRITY');
      // The group: nine temp frames of one sector each, and a commit of two frames.
      if (sector >= 18 && sector < 18 + 9) expect(codes).toEqual(['EINTEGRITY']);
      if (sector >= 18) expect(found.stats().damage).toHaveLength(1);
    }
  });

  test('two sectors that leave a key untold make what is older suspect, and nothing else', () => {
    const damaged = image.slice();
    // The temp frame of the first key, and the commit frame that has its entry.
    damaged.fill(0, 18 * 512, 19 * 512);
    damaged.fill(0, (18 + 9) * 512, (18 + 10) * 512);
    const found = reopen(deviceOf(damaged));
    expect(codeThrown(() => found.get('/state/before'))).toBe('EINTEGRITY');
    expect(codeThrown(() => found.get(keys[0] as string))).toBe('EINTEGRITY');
    for (const [i, key] of keys.entries()) if (i > 0) expect(found.get(key)).toEqual(bytes(10, i));
    expect(found.get('/state/after')).toEqual(bytes(8));
  });
});
