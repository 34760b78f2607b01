import { describe, expect, it, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { VirtualClock } from '../../src/core/index.ts';
import {
  type OpenOptions,
  open,
  type StateFs,
  type StoreEvent,
  type TransactionOptions,
} from '../../src/statefs/index.ts';
import { bytes, codeThrown, deviceOf, FailingDevice, formatted, imageOf, ioError } from './helpers.ts';

/** Every call of a store, whether it changes something, and what it is called in an event, with its key. */
const CALLS: [string, (store: StateFs) => unknown, { readonly changes: boolean; readonly told?: [string, string?] }][] =
  [
    ['putAtomic', (store) => store.putAtomic('/state/b', bytes(3)), { changes: true, told: ['putAtomic', '/state/b'] }],
    ['put', (store) => store.put('/state/b', bytes(3)), { changes: true, told: ['put', '/state/b'] }],
    ['get', (store) => store.get('/state/a'), { changes: false, told: ['get', '/state/a'] }],
    ['stat', (store) => store.stat('/state/a'), { changes: false, told: ['stat', '/state/a'] }],
    ['has', (store) => store.has('/state/a'), { changes: false }],
    ['delete', (store) => store.delete('/state/a'), { changes: true, told: ['delete', '/state/a'] }],
    ['delete of nothing', (store) => store.delete('/state/b'), { changes: true, told: ['delete', '/state/b'] }],
    [
      'transaction',
      (store) => store.transaction((tx) => tx.put('/state/b', bytes(3))),
      { changes: true, told: ['transaction'] },
    ],
    ['begin', (store) => store.begin(), { changes: true }],
    ['snapshot', (store) => store.snapshot(), { changes: false }],
    ['list', (store) => store.list(), { changes: false }],
    ['compact', (store) => store.compact(), { changes: true, told: ['compact'] }],
    ['compactStep', (store) => store.compactStep(), { changes: true, told: ['compactStep'] }],
    ['scrub', (store) => store.scrub(), { changes: false, told: ['scrub'] }],
    ['scrubStep', (store) => store.scrubStep(), { changes: false, told: ['scrubStep'] }],
    ['sync', (store) => store.sync(), { changes: true, told: ['sync'] }],
  ];

const CHANGES = CALLS.filter(([, , { changes }]) => changes);

function withRecord(options: OpenOptions = {}): { device: FailingDevice; store: StateFs } {
  const device = new FailingDevice(formatted());
  open(device).putAtomic('/state/a', bytes(5));
  return { device, store: open(device, options) };
}

describe('each call:', () => {
  test.each(CALLS)('%s works, and is refused once the store is closed', (_name, call) => {
    const { store } = withRecord();
    expect(codeThrown(() => call(store))).toBe('none');
    store.close();
    expect(codeThrown(() => call(store))).toBe('ECLOSED');
  });

  test.each(CALLS)('%s changes a store that is open read-only in nothing', (_name, call, { changes }) => {
    for (const isDevice of [false, true]) {
      const { device } = withRecord();
      const image = imageOf(device);
      const target = isDevice ? Object.assign(deviceOf(image), { readOnly: true }) : device;
      device.flushes = 0;
      const store = open(target, { readOnly: !isDevice });
      expect(store.readOnly).toBe(true);
      expect(codeThrown(() => call(store))).toBe(changes ? 'EROFS' : 'none');
      store.close();
      expect(device.flushes).toBe(0);
      expect(Buffer.compare(imageOf(target), image)).toBe(0);
    }
  });

  test.each(CHANGES)('%s is refused once a commit is in doubt', (_name, call) => {
    const { device, store } = withRecord();
    store.putAtomic('/state/a', bytes(5));
    expect(store.isLatched).toBe(false);
    device.before = (kind) => kind === 'flush' && ioError();
    expect(codeThrown(() => store.putAtomic('/state/a', bytes(5)))).toBe('EIO');
    device.before = () => {};
    const { writes, flushes } = device;
    expect(store.isLatched).toBe(true);
    expect(codeThrown(() => call(store))).toBe('EIO');
    expect(() => call(store)).toThrow(/in doubt/);
    expect([device.writes, device.flushes]).toEqual([writes, flushes]);
  });

  test.each(CALLS)('%s that takes long is told by its name', (_name, call, { told }) => {
    let nowMs = 0;
    const events: StoreEvent[] = [];
    const clock = { wallMs: () => 0, monotonicMs: () => (nowMs += 300) };
    const { store } = withRecord({ clock, onEvent: (event) => events.push(event) });
    call(store);
    const slow = events.filter((event) => event.type === 'slow');
    const [operation, key] = told ?? [];
    const expected = { type: 'slow', operation, key, budgetMs: 250 };
    expect(slow).toMatchObject(told === undefined ? [] : [expected]);
  });
});

describe('arguments', () => {
  const { store } = withRecord();
  test.each<[string, () => unknown, string]>([
    ['compactStep of no byte', () => store.compactStep(0), 'RangeError'],
    ['scrubStep of no byte', () => store.scrubStep(0), 'RangeError'],
    ['list of less than no keys', () => store.list('', -1), 'RangeError'],
    ['begin with null', () => store.begin(null as unknown as TransactionOptions), 'TypeError'],
    ['begin with a number', () => store.begin(7 as unknown as TransactionOptions), 'TypeError'],
    ['begin with another mode', () => store.begin({ commit: 'x' as 'ordered' }), 'RangeError'],
    ['begin with a deadline below 0', () => store.begin({ deadlineMs: -1 }), 'RangeError'],
    ['has of no key', () => store.has('/other'), 'EINVAL'],
    ['stat of no key', () => store.stat('/other'), 'EINVAL'],
    ['delete of no key', () => store.delete('/other'), 'EINVAL'],
    ['stat of nothing', () => store.stat('/state/none'), 'ENOENT'],
    ['put of no bytes', () => store.put('/state/a', 'text' as unknown as Uint8Array), 'TypeError'],
    ['put with a deadline below 0', () => store.put('/state/a', bytes(1), { deadlineMs: -1 }), 'RangeError'],
    ['delete with another mode', () => store.delete('/state/a', { commit: 'x' as 'ordered' }), 'RangeError'],
  ])('that are wrong are refused with nothing changed: %s', (_name, call, expected) => {
    expect(codeThrown(call)).toContain(expected);
    expect(store.get('/state/a')).toEqual(bytes(5));
  });

  it('of a step say how much it does: one of a byte does a piece, the largest all', () => {
    const { store: small } = withRecord();
    for (let i = 0; i < 40; i++) small.put(`/state/${i}`, bytes(400, i));
    expect(small.compactStep(1)).toBe(false);
    expect(small.stats()).toMatchObject({ compacting: true, compactions: 0 });
    expect(small.compactStep(1 << 20)).toBe(true);
    expect(small.stats()).toMatchObject({ compacting: false, compactions: 1 });
    expect(small.scrubStep(1)).toBe(undefined);
    expect(small.stats()).toMatchObject({ scrubbing: true, scrubs: 0, lastScrub: undefined });
    expect(small.stats().scrubbedBytes).toBeGreaterThan(0);
    const report = small.scrubStep(1 << 20);
    expect(report?.verifiedBytes).toBeGreaterThan(40 * 400);
    expect(small.stats()).toMatchObject({
      scrubbing: false,
      scrubs: 1,
      lastScrub: report,
      scrubbedBytes: report?.verifiedBytes,
    });
  });
});

describe('an open', () => {
  it('flushes once before it reads, unless it is read-only, and tells what it found', () => {
    const { device } = withRecord();
    for (const readOnly of [false, true]) {
      const events: StoreEvent[] = [];
      device.flushes = 0;
      const order: string[] = [];
      device.before = (kind) => void order.push(kind);
      const store = open(device, { readOnly, onEvent: (event) => events.push(event) });
      device.before = () => {};
      expect(device.flushes).toBe(readOnly ? 0 : 1);
      expect(order[0]).toBe(readOnly ? 'read' : 'flush');
      expect(events).toEqual([{ type: 'replayed', keys: 1, lastSequence: 1, damage: 0 }]);
      expect(store.stats()).toMatchObject({
        keys: 1,
        regionBytes: 248 * 512,
        freeBytes: 246 * 512,
        // A sector of temp frame, one for the entry, and two that a group may waste in its commit.
        liveBytes: 4 * 512,
        compacting: false,
        compactions: 0,
        scrubbing: false,
        scrubbedBytes: 0,
        scrubs: 0,
        lastScrub: undefined,
        quotas: [],
        lastSequence: 1,
        epoch: 3,
        damage: [],
      });
    }
  });

  it('tells of the superblock that it does without, and of each damage, before it tells what is there', () => {
    const { device, store } = withRecord();
    store.putAtomic('/state/b', bytes(5));
    store.putAtomic('/state/c', bytes(5));
    store.close();
    const image = imageOf(device);
    image.fill(0, 18 * 512, 20 * 512);
    image.fill(0xee, 0, 512);
    const events: StoreEvent[] = [];
    const damaged = open(deviceOf(image), { onEvent: (event) => events.push(event) });
    const { damage } = damaged.stats();
    expect(damage).toHaveLength(1);
    expect(events).toEqual([
      { type: 'superblock', what: expect.stringContaining('one copy is unusable: ') },
      { type: 'damage', damage: damage[0] },
      { type: 'replayed', keys: 2, lastSequence: 3, damage: 1 },
    ]);
    // Of a loss with unknown keys a deletion of what is not there is a change: it settles the key.
    expect(codeThrown(() => damaged.has('/state/x'))).toBe('EINTEGRITY');
    expect(damaged.delete('/state/x')).toBe(false);
    expect(damaged.stats().lastSequence).toBe(4);
    damaged.transaction((tx) => {
      tx.put('/state/y', bytes(1));
    });
    expect(damaged.has('/state/y')).toBe(true);
    expect(damaged.stats().lastSequence).toBe(5);
  });

  it('counts a key whose value is lost, and not among those that it gives', () => {
    const { device, store } = withRecord();
    store.putAtomic('/state/b', bytes(5));
    store.close();
    const image = imageOf(device);
    image.fill(0, 18 * 512, 19 * 512);
    const events: StoreEvent[] = [];
    const damaged = open(deviceOf(image), { onEvent: (event) => events.push(event) });
    expect(events.at(-1)).toEqual({ type: 'replayed', keys: 1, lastSequence: 2, damage: 1 });
    expect([damaged.stats().keys, damaged.has('/state/b')]).toEqual([2, true]);
    expect(codeThrown(() => damaged.get('/state/b'))).toBe('EINTEGRITY');
  });

  it('of a device that fails fails as the device does', () => {
    const { device } = withRecord();
    device.before = (kind) => kind === 'flush' && ioError();
    expect(codeThrown(() => open(device))).toBe('EIO');
    expect(() => open(device)).toThrow(/^open: /);
    expect(codeThrown(() => open(new MemoryDevice({ sectorCount: 512 })))).toBe('EINVAL');
  });
});

describe('what a call leaves unsaid', () => {
  it('is the wall time, no subject, no purpose, and the way of the store to commit', () => {
    const clock = new VirtualClock(1_700_000_000_000);
    const { device, store } = withRecord({ clock, commit: 'ordered' });
    store.putAtomic('/state/b', bytes(1));
    expect(store.stat('/state/b')).toMatchObject({
      key: '/state/b',
      payloadBytes: 1,
      sequence: 2,
      meta: { subject: '', purpose: '', ts: 1_700_000_000_000 },
    });
    const cost = (call: () => unknown): number => {
      const { flushes } = device;
      call();
      return device.flushes - flushes;
    };
    expect(cost(() => store.putAtomic('/state/b', bytes(1)))).toBe(2);
    expect(cost(() => store.transaction((tx) => tx.put('/state/b', bytes(1))))).toBe(2);
    expect(cost(() => store.transaction((tx) => tx.put('/state/b', bytes(1)), { commit: 'checksummed' }))).toBe(1);
    expect(cost(() => store.put('/state/b', bytes(1), { commit: 'ordered' }))).toBe(0);
    expect(cost(() => store.transaction((tx) => tx.put('/state/b', bytes(1)), { durable: false }))).toBe(1);
    expect(cost(() => store.sync())).toBe(1);
    expect(cost(() => store.delete('/state/b', { commit: 'checksummed' }))).toBe(1);
    const meta = { subject: 's', purpose: 'p', ts: 3 };
    store.transaction(
      (tx) => {
        tx.put('/state/b', bytes(1));
        tx.put('/state/c', bytes(1), { meta: { purpose: 'q' } });
      },
      { meta },
    );
    expect(store.stat('/state/b').meta).toEqual(meta);
    expect(store.stat('/state/c').meta).toEqual({ ...meta, purpose: 'q' });
  });

  it('is a payload of at most the budget; what is there already is read all the same', () => {
    const { device, store } = withRecord();
    store.putAtomic('/state/b', bytes(9000));
    store.compact();
    store.close();
    const small = open(device, { budgets: { payloadBytes: 100 } });
    expect(codeThrown(() => small.putAtomic('/state/b', bytes(101)))).toBe('E2BIG');
    expect(small.get('/state/b')).toEqual(bytes(9000));
  });
});
