import { describe, expect, it } from 'vitest';
import { open, type Quota, type StoreEvent } from '../../src/statefs/index.ts';
import { bytes, codeThrown, FailingDevice, formatted, reopen } from './helpers.ts';

const quotas: Quota[] = [
  { prefix: '/state/app/', soft: { keys: 2, bytes: 100 }, hard: { keys: 3, bytes: 200 } },
  { prefix: '/state/', hard: { bytes: 300 } },
];

describe('quotas', () => {
  it('refuse what crosses a hard limit, before anything is written', () => {
    const device = new FailingDevice(formatted());
    const store = open(device, { quotas });
    for (const key of ['a', 'b', 'c']) store.putAtomic(`/state/app/${key}`, bytes(20));
    const { writes } = device;
    expect(() => store.putAtomic('/state/app/d', bytes(1))).toThrow(/quota of \/state\/app\/.*3 keys, got 4/);
    expect(codeThrown(() => store.put('/state/app/a', bytes(200)))).toBe('EDQUOT');
    // The outer prefix counts by itself.
    expect(codeThrown(() => store.putAtomic('/state/other', bytes(250)))).toBe('EDQUOT');
    const change = (): void =>
      store.transaction((tx) => {
        tx.put('/state/app/a', bytes(1));
        tx.put('/state/app/d', bytes(1));
      });
    expect(codeThrown(change)).toBe('EDQUOT');
    expect(device.writes).toBe(writes);
    expect(store.get('/state/app/a')).toEqual(bytes(20));
    // What takes no more than before is allowed, also together with a deletion.
    store.transaction((tx) => {
      tx.delete('/state/app/a');
      tx.put('/state/app/d', bytes(20));
    });
    store.putAtomic('/state/app/d', bytes(10));
  });

  it('tell by an event when a soft limit is crossed, each time', () => {
    const events: StoreEvent[] = [];
    const store = open(formatted(), { quotas, onEvent: (event) => event.type === 'quota' && events.push(event) });
    store.putAtomic('/state/app/a', bytes(80));
    expect(events).toEqual([]);
    store.putAtomic('/state/app/b', bytes(1));
    expect(events).toEqual([{ type: 'quota', prefix: '/state/app/', resource: 'bytes', used: 105, limit: 100 }]);
    store.putAtomic('/state/app/c', bytes(0));
    expect(events.slice(1)).toEqual([{ type: 'quota', prefix: '/state/app/', resource: 'keys', used: 3, limit: 2 }]);
    store.delete('/state/app/c');
    store.putAtomic('/state/app/c', bytes(0));
    expect(events).toHaveLength(3);
  });

  it('count the same after recovery and after a move', () => {
    const device = formatted(1024);
    const store = open(device, { quotas: [{ prefix: '/state/ü/' }, { prefix: '' }] });
    for (let i = 0; i < 30; i++) store.put(`/state/ü/${i % 7}`, bytes(i * 90, i));
    store.putAtomic('/state/x', bytes(7));
    store.delete('/state/ü/3');
    const { quotas: counted } = store.stats();
    // Six keys of eleven bytes, with what was put last.
    const payloads = [28, 29, 23, 25, 26, 27].reduce((sum, i) => sum + i * 90, 0);
    expect(counted[0]).toEqual({ prefix: '/state/ü/', keys: 6, bytes: 6 * 11 + payloads });
    expect(counted[1]).toEqual({ prefix: '', keys: 7, bytes: 6 * 11 + payloads + 8 + 7 });
    const options = { quotas: [{ prefix: '/state/ü/' }, { prefix: '' }] };
    expect(reopen(device, options).stats().quotas).toEqual(counted);
    store.compact();
    expect(store.stats().quotas).toEqual(counted);
    expect(reopen(device, options).stats().quotas).toEqual(counted);
  });

  it('that are already crossed when the store is opened let it shrink, and not grow', () => {
    const device = formatted();
    open(device).putAtomic('/state/app/a', bytes(500));
    const store = open(device, { quotas });
    expect(codeThrown(() => store.putAtomic('/state/app/a', bytes(501)))).toBe('EDQUOT');
    store.putAtomic('/state/app/a', bytes(400));
    expect(store.delete('/state/app/a')).toBe(true);
  });

  it('are checked', () => {
    const wrong =
      (value: unknown): (() => unknown) =>
      () =>
        open(formatted(), { quotas: value as Quota[] });
    expect(wrong('all')).toThrow(TypeError);
    expect(wrong([7])).toThrow(TypeError);
    expect(wrong([{ prefix: '/state/', hard: { bytes: -1 } }])).toThrow(RangeError);
    expect(codeThrown(wrong([{ prefix: '/other/' }]))).toBe('EINVAL');
  });
});
