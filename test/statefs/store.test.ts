import { describe, expect, it, vi } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { VirtualClock } from '../../src/core/index.ts';
import { SimulatedDisk } from '../../src/faults/index.ts';
import {
  type CommitMode,
  format,
  type OpenOptions,
  open,
  type StateFs,
  type StoreEvent,
} from '../../src/statefs/index.ts';
import { bytes, codeThrown, FailingDevice, formatted, ioError, reopen, STORE_ID } from './helpers.ts';

const modes: CommitMode[] = ['ordered', 'checksummed'];
const geometries = [
  { name: '512', sectorBytes: 512, physicalSectorBytes: 512 },
  { name: '512e', sectorBytes: 512, physicalSectorBytes: 4096 },
  { name: '4Kn', sectorBytes: 4096, physicalSectorBytes: 4096 },
];

describe.each(geometries)('a store on $name', ({ sectorBytes, physicalSectorBytes }) => {
  const make = () => formatted((8 << 20) / sectorBytes, sectorBytes, physicalSectorBytes);

  describe.each(modes)('%s', (commit) => {
    // Around every edge of the format: none, inline, an inline frame that is just full, extents of one frame and many.
    const sizes = [0, 1, 511, 512, 1000, 1800, 1900, 1984, 2048, 4000, 4096, 65_536, 1_048_576];
    it.each(sizes)('gives back %i bytes, before and after reopening', (size) => {
      const device = make();
      const store = open(device, { commit });
      const value = bytes(size);
      store.putAtomic('/state/other', bytes(10, 2));
      store.putAtomic('/state/a', value, { meta: { subject: 'test', purpose: 'sizes', ts: 7 } });
      store.putAtomic('/state/after', bytes(20, 3));
      for (const s of [store, reopen(device)]) {
        expect(Buffer.compare(s.get('/state/a'), value)).toBe(0);
        expect(s.stat('/state/a')).toMatchObject({
          payloadBytes: size,
          meta: { subject: 'test', purpose: 'sizes', ts: 7 },
        });
        expect(s.get('/state/other')).toEqual(bytes(10, 2));
        expect(s.get('/state/after')).toEqual(bytes(20, 3));
      }
    });

    it('overwrites, deletes, and puts again', () => {
      const device = make();
      const store = open(device, { commit });
      store.putAtomic('/state/a', bytes(100));
      store.putAtomic('/state/a', bytes(5000, 2));
      expect(store.get('/state/a')).toEqual(bytes(5000, 2));
      expect(store.delete('/state/a')).toBe(true);
      expect(store.delete('/state/a')).toBe(false);
      expect(store.has('/state/a')).toBe(false);
      expect(codeThrown(() => store.get('/state/a'))).toBe('ENOENT');
      expect(reopen(device).has('/state/a')).toBe(false);
      store.putAtomic('/state/a', bytes(3, 4));
      expect(reopen(device).get('/state/a')).toEqual(bytes(3, 4));
    });
  });

  it('never hands out or keeps a view', () => {
    const device = make();
    const store = open(device);
    const value = bytes(64);
    store.putAtomic('/state/a', value);
    value.fill(0);
    const got = store.get('/state/a');
    expect(got).toEqual(bytes(64));
    got.fill(0);
    expect(store.get('/state/a')).toEqual(bytes(64));
  });

  it('survives many lives and long logs', () => {
    const device = make();
    const model = new Map<string, Uint8Array>();
    for (let life = 0; life < 20; life++) {
      const store = open(device, { commit: modes[life % 2] as CommitMode });
      for (let i = 0; i < 8; i++) {
        const key = `/state/k${(life * 3 + i) % 5}`;
        const value = bytes(20 + ((life * 97 + i * 61) % 2500), life * 10 + i);
        store.putAtomic(key, value);
        model.set(key, value);
      }
      if (life % 3 === 0) store.close();
    }
    const store = reopen(device);
    expect(store.list()).toEqual([...model.keys()].sort());
    for (const [key, value] of model) expect(store.get(key)).toEqual(value);
    expect(store.stats().damage).toEqual([]);
  });
});

describe('keys', () => {
  const store = open(formatted());
  const bad: [string, string][] = [
    ['', 'EINVAL'],
    ['/state', 'EINVAL'],
    ['/state/', 'EINVAL'],
    ['state/a', 'EINVAL'],
    ['/other/a', 'EINVAL'],
    ['/state//a', 'EINVAL'],
    ['/state/a/', 'EINVAL'],
    ['/state/./a', 'EINVAL'],
    ['/state/a/..', 'EINVAL'],
    ['/state/a\u0000', 'EINVAL'],
    ['/state/a\n', 'EINVAL'],
    ['/state/\ud800', 'EINVAL'],
    [`/state/${'x'.repeat(249)}`, 'E2BIG'],
    [`/state/${'€'.repeat(83)}`, 'E2BIG'],
    [`/state/${'x'.repeat(1_000_000)}`, 'E2BIG'],
  ];
  it.each(bad.map(([key, code], i) => [i, key.slice(0, 20), code, key] as const))(
    '%i: refuses %j with %s',
    (_i, _start, code, key) => {
      expect(codeThrown(() => store.putAtomic(key, bytes(1)))).toBe(code);
      expect(codeThrown(() => store.get(key))).toBe(code);
      expect(codeThrown(() => store.delete(key))).toBe(code);
    },
  );

  it('accepts the longest key, in bytes', () => {
    for (const key of [`/state/${'x'.repeat(248)}`, `/state/${'€'.repeat(82)}xx`, '/state/a/b/..c/.d/é']) {
      store.putAtomic(key, bytes(5));
      expect(store.get(key)).toEqual(bytes(5));
    }
  });

  it('refuses wrong types with TypeError', () => {
    for (const run of [
      () => store.putAtomic(7 as unknown as string, bytes(1)),
      () => store.putAtomic('/state/a', 'text' as unknown as Uint8Array),
      () => store.get(undefined as unknown as string),
      () => store.putAtomic('/state/a', bytes(1), { commit: 3 as unknown as CommitMode }),
      () => store.putAtomic('/state/a', bytes(1), { meta: { subject: 3 as unknown as string } }),
      () => open(formatted(), null as unknown as OpenOptions),
    ]) {
      expect(run).toThrow(TypeError);
    }
    expect(() => store.putAtomic('/state/a', bytes(1), { commit: 'other' as CommitMode })).toThrow(RangeError);
  });
});

describe('list', () => {
  const store = open(formatted(2048));
  for (const key of ['b', 'a/2', 'a/1', 'a', 'ab', 'c']) store.putAtomic(`/state/${key}`, bytes(1));
  it('gives keys by prefix, sorted, up to the limit', () => {
    expect(store.list()).toEqual(['/state/a', '/state/a/1', '/state/a/2', '/state/ab', '/state/b', '/state/c']);
    expect(store.list('/state/a/')).toEqual(['/state/a/1', '/state/a/2']);
    expect(store.list('/state/a')).toEqual(['/state/a', '/state/a/1', '/state/a/2', '/state/ab']);
    expect(store.list('/sta', 2)).toEqual(['/state/a', '/state/a/1']);
    expect(store.list('/state/zzz')).toEqual([]);
    expect(store.list('', 0)).toEqual([]);
  });
  it('refuses what is no start of a key', () => {
    expect(codeThrown(() => store.list('/other'))).toBe('EINVAL');
    expect(() => store.list('', -1)).toThrow(RangeError);
  });
});

describe('budgets', () => {
  it('refuses a payload over the cap before anything is written', () => {
    const device = new FailingDevice(formatted());
    const store = open(device, { budgets: { payloadBytes: 100 } });
    expect(codeThrown(() => store.putAtomic('/state/a', bytes(101)))).toBe('E2BIG');
    expect(device.writes).toBe(0);
    store.putAtomic('/state/a', bytes(100));
  });

  it('refuses metadata over the cap', () => {
    const store = open(formatted());
    expect(codeThrown(() => store.putAtomic('/state/a', bytes(1), { meta: { subject: 'x'.repeat(1000) } }))).toBe(
      'E2BIG',
    );
    expect(codeThrown(() => store.putAtomic('/state/a', bytes(1), { meta: { ts: -1 } }))).toBe('EINVAL');
  });

  it.each(modes)('warns over the soft latency, with the measured time (%s)', (commit) => {
    const clock = new VirtualClock();
    const device = new FailingDevice(formatted());
    const events: StoreEvent[] = [];
    const store = open(device, {
      clock,
      commit,
      onEvent: (event) => events.push(event),
      budgets: { softLatencyMs: 50 },
    });
    store.putAtomic('/state/a', bytes(1));
    expect(events.filter((event) => event.type === 'slow')).toEqual([]);
    device.before = (kind) => kind === 'flush' && clock.advance(60);
    store.putAtomic('/state/a', bytes(2));
    expect(events.at(-1)).toEqual({
      type: 'slow',
      operation: 'putAtomic',
      key: '/state/a',
      elapsedMs: commit === 'ordered' ? 120 : 60,
      budgetMs: 50,
    });
    expect(store.get('/state/a')).toEqual(bytes(2));
  });

  it('a listener that throws turns no success into a failure: its error is raised on its own', () => {
    const raised: (() => void)[] = [];
    const later = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((task) => void raised.push(task));
    try {
      const clock = new VirtualClock();
      const device = new FailingDevice(formatted());
      const onEvent = (event: StoreEvent) => {
        throw new Error(`a listener of ${event.type}`);
      };
      const store = open(device, { clock, onEvent });
      device.before = (kind) => kind === 'flush' && clock.advance(1000);
      store.putAtomic('/state/a', bytes(2));
      expect(store.get('/state/a')).toEqual(bytes(2));
    } finally {
      later.mockRestore();
    }
    expect(raised).toHaveLength(2);
    expect(raised[0]).toThrow('a listener of replayed');
    expect(raised[1]).toThrow('a listener of slow');
  });

  it.each(modes)('gives up before the commit when the deadline has passed: old bytes stay (%s)', (commit) => {
    const clock = new VirtualClock();
    const device = new FailingDevice(formatted(16_384));
    const store = open(device, { clock, commit, budgets: { deadlineMs: 100 } });
    const old = bytes(3000);
    store.putAtomic('/state/a', old);
    device.before = (kind) => kind === 'write' && clock.advance(101);
    expect(codeThrown(() => store.putAtomic('/state/a', bytes(3000, 2)))).toBe('EDEADLINE');
    expect(codeThrown(() => store.putAtomic('/state/b', bytes(200_000, 2), { deadlineMs: 200 }))).toBe('EDEADLINE');
    device.before = () => {};
    expect(store.get('/state/a')).toEqual(old);
    expect(reopen(device).list()).toEqual(['/state/a']);
    expect(reopen(device).get('/state/a')).toEqual(old);
    store.putAtomic('/state/a', bytes(30, 3));
    expect(reopen(device).get('/state/a')).toEqual(bytes(30, 3));
  });

  it('does not let the deadline turn an issued commit into a failure', () => {
    const clock = new VirtualClock();
    const device = new FailingDevice(formatted());
    const store = open(device, { clock, budgets: { deadlineMs: 100 } });
    store.putAtomic('/state/a', bytes(1));
    device.before = (kind) => kind === 'flush' && clock.advance(500);
    store.putAtomic('/state/a', bytes(2));
    expect(store.get('/state/a')).toEqual(bytes(2));
  });
});

describe('space', () => {
  it('says ENOSPC with everything readable, and still deletes', () => {
    const device = formatted(256);
    const store = open(device);
    let count = 0;
    const code = codeThrown(() => {
      for (;;) {
        store.putAtomic(`/state/k${count}`, bytes(400, count));
        count++;
      }
    });
    expect(code).toBe('ENOSPC');
    expect(count).toBeGreaterThan(10);
    for (const s of [store, reopen(device)]) {
      for (let i = 0; i < count; i++) expect(s.get(`/state/k${i}`)).toEqual(bytes(400, i));
    }
    for (let i = 0; i < 16; i++) expect(store.delete(`/state/k${i}`)).toBe(true);
    expect(reopen(device).list().length).toBe(count - 16);
  });

  it('writes nothing when there is no space', () => {
    const device = new FailingDevice(formatted(256));
    const store = open(device);
    store.putAtomic('/state/a', bytes(10));
    const { writes } = device;
    expect(codeThrown(() => store.putAtomic('/state/b', bytes(100_000)))).toBe('ENOSPC');
    expect(device.writes).toBe(writes);
  });

  it('refuses a partition that is too small', () => {
    expect(codeThrown(() => format(new MemoryDevice({ sectorCount: 20 })))).toBe('EINVAL');
  });
});

describe('put and sync', () => {
  it('flushes nothing before sync, once in it, and nothing when there is nothing to do', () => {
    const device = new FailingDevice(formatted());
    const store = open(device);
    store.putAtomic('/state/first', bytes(1));
    const { flushes } = device;
    for (let i = 0; i < 5; i++) store.put(`/state/k${i}`, bytes(10, i));
    expect(device.flushes).toBe(flushes);
    store.sync();
    expect(device.flushes).toBe(flushes + 1);
    store.sync();
    expect(device.flushes).toBe(flushes + 1);
    expect(reopen(device).list().length).toBe(6);
  });

  it.each<[string, (store: StateFs) => unknown]>([
    ['a deletion of what is not there', (store: StateFs) => store.delete('/state/none')],
    ['an empty transaction', (store: StateFs) => store.transaction(() => {})],
    [
      'a transaction that deletes what is not there',
      (store: StateFs) => store.transaction((tx) => tx.delete('/state/none')),
    ],
  ])('%s makes durable what came before, and no flush where all is', (_name, run) => {
    // Each open sector gets the oldest version that it can: nothing that was not flushed is there after a cut.
    const disk = new SimulatedDisk({ sectorCount: 512, choices: { choose: (options) => options - 1 } });
    format(disk, { storeId: STORE_ID });
    const store = open(disk);
    store.putAtomic('/state/gone', bytes(9));
    store.delete('/state/gone', { durable: false });
    store.put('/state/a', bytes(100));
    run(store);
    const flush = vi.spyOn(disk, 'flush');
    run(store);
    expect(flush).not.toHaveBeenCalled();
    disk.cut();
    disk.powerOn();
    expect(open(disk).list()).toEqual(['/state/a']);
  });

  it('costs one flush a put when checksummed and two when ordered', () => {
    const device = new FailingDevice(formatted());
    const store = open(device);
    store.putAtomic('/state/first', bytes(1));
    for (const [commit, cost] of [
      ['checksummed', 1],
      ['ordered', 2],
    ] as const) {
      const before = device.flushes;
      store.putAtomic('/state/a', bytes(1000), { commit });
      expect(device.flushes - before).toBe(cost);
    }
  });
});

describe('failing devices', () => {
  it('latches when the commit itself fails, and says how to mend it', () => {
    for (const kind of ['write', 'flush'] as const) {
      const device = new FailingDevice(formatted());
      const events: StoreEvent[] = [];
      const store = open(device, { onEvent: (event) => events.push(event) });
      store.putAtomic('/state/a', bytes(1));
      device.before = (now) => now === kind && ioError();
      expect(codeThrown(() => store.putAtomic('/state/a', bytes(2)))).toBe('EIO');
      device.before = () => {};
      expect(events.at(-1)?.type).toBe('latched');
      expect(() => store.putAtomic('/state/a', bytes(3))).toThrow(/in doubt.*reopen/);
      expect(codeThrown(() => store.delete('/state/a'))).toBe('EIO');
      expect(codeThrown(() => store.sync())).toBe('EIO');
      expect(store.get('/state/a')).toEqual(bytes(1));
      const { writes } = device;
      store.close();
      expect(device.writes).toBe(writes);
      expect([bytes(1), bytes(2)]).toContainEqual(reopen(device).get('/state/a'));
    }
  });

  it('closes with EIO where the latch may have lost puts that were never synced, and only there', () => {
    const device = new FailingDevice(formatted());
    const latched = (unsynced: boolean): StateFs => {
      device.before = () => {};
      const store = open(device);
      store.putAtomic('/state/a', bytes(1));
      if (unsynced) store.put('/state/b', bytes(2));
      device.before = (now) => now === 'flush' && ioError();
      expect(codeThrown(() => store.putAtomic('/state/a', bytes(3)))).toBe('EIO');
      return store;
    };
    latched(false).close();
    const store = latched(true);
    expect(() => store.close()).toThrow(/close: .*in doubt.*reopen/);
    store.close();
  });

  it('goes on after a failed write of temp frames: nothing was committed', () => {
    const device = new FailingDevice(formatted());
    const store = open(device, { commit: 'ordered' });
    store.putAtomic('/state/a', bytes(1));
    device.before = (kind) => kind === 'write' && ioError();
    expect(codeThrown(() => store.putAtomic('/state/a', bytes(2)))).toBe('EIO');
    device.before = () => {};
    expect(store.get('/state/a')).toEqual(bytes(1));
    store.putAtomic('/state/a', bytes(3));
    expect(reopen(device).get('/state/a')).toEqual(bytes(3));
  });

  it('commits nothing when the temp frames read back wrong', () => {
    const inner = formatted();
    const device = new FailingDevice(inner);
    const store = open(device, { commit: 'ordered' });
    store.putAtomic('/state/a', bytes(600));
    let written = -1;
    device.before = (kind, sector) => {
      if (kind === 'write') written = sector;
      // Between the flush and the read-back, the medium loses what it took.
      if (kind === 'flush' && written >= 0) inner.writeZeroes(written + 1, 1);
    };
    expect(codeThrown(() => store.putAtomic('/state/a', bytes(600, 2)))).toBe('EINTEGRITY');
    device.before = () => {};
    expect(store.get('/state/a')).toEqual(bytes(600));
    expect(reopen(device).get('/state/a')).toEqual(bytes(600));
  });

  it('reports an unreadable sector as EIO and keeps the rest readable', () => {
    const device = new FailingDevice(formatted());
    const store = open(device);
    store.putAtomic('/state/a', bytes(100));
    store.putAtomic('/state/b', bytes(100, 2));
    const regionStart = 16;
    device.before = (kind, sector) => kind === 'read' && sector === regionStart && ioError();
    expect(codeThrown(() => store.get('/state/a'))).toBe('EIO');
    expect(store.get('/state/b')).toEqual(bytes(100, 2));
    const later = reopen(device);
    expect(codeThrown(() => later.get('/state/a'))).toBe('EINTEGRITY');
    expect(later.get('/state/b')).toEqual(bytes(100, 2));
  });

  it('mounts with an unreadable last block', () => {
    const device = new FailingDevice(formatted());
    const store = open(device);
    store.putAtomic('/state/a', bytes(100));
    device.before = (kind, sector) => kind === 'read' && sector === 18 && ioError();
    const later = reopen(device);
    expect(later.get('/state/a')).toEqual(bytes(100));
    device.before = () => {};
    later.putAtomic('/state/b', bytes(5));
    expect(reopen(device).list()).toEqual(['/state/a', '/state/b']);
  });
});

describe('read-only and closed', () => {
  it('refuses changes and writes nothing', () => {
    const device = new FailingDevice(formatted());
    open(device).putAtomic('/state/a', bytes(1));
    const { writes, flushes } = device;
    const store = open(device, { readOnly: true });
    expect(store.get('/state/a')).toEqual(bytes(1));
    expect(codeThrown(() => store.putAtomic('/state/a', bytes(2)))).toBe('EROFS');
    expect(codeThrown(() => store.delete('/state/a'))).toBe('EROFS');
    expect(codeThrown(() => store.sync())).toBe('EROFS');
    store.close();
    expect([device.writes, device.flushes]).toEqual([writes, flushes]);
  });

  it('writes nothing before the first change', () => {
    const device = new FailingDevice(formatted());
    open(device).putAtomic('/state/a', bytes(1));
    const { writes } = device;
    const store = open(device);
    store.get('/state/a');
    store.list();
    store.delete('/state/none');
    store.close();
    expect(device.writes).toBe(writes);
  });

  it('says so when closed', () => {
    const store = open(formatted());
    store.close();
    store.close();
    for (const run of [() => store.get('/state/a'), () => store.putAtomic('/state/a', bytes(1)), () => store.list()]) {
      expect(codeThrown(run)).toBe('ECLOSED');
    }
  });
});

describe('a payload in shared memory', () => {
  it.each([10, 5000])('is the one of the call, whatever another thread writes meanwhile: %i bytes', (length) => {
    const device = new FailingDevice(formatted());
    const store = open(device);
    const shared = new Uint8Array(new SharedArrayBuffer(length)).fill(1);
    device.before = () => void shared.fill(2);
    store.putAtomic('/state/a', shared);
    device.before = () => {};
    expect(store.get('/state/a')).toEqual(new Uint8Array(length).fill(1));
  });
});
