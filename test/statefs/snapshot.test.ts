import { describe, expect, it } from 'vitest';
import { open } from '../../src/statefs/index.ts';
import { bytes, codeThrown, formatted } from './helpers.ts';

describe('a snapshot', () => {
  it('shows what was there, whatever is changed and moved since', () => {
    const store = open(formatted(2048), { compaction: 'manual' });
    for (let i = 0; i < 10; i++) store.putAtomic(`/state/${i}`, bytes(i * 500, i));
    const expected = store.list().map((key) => [store.stat(key), store.get(key)]);
    const [first, second] = [store.snapshot(), store.snapshot()];
    store.putAtomic('/state/1', bytes(7, 77));
    store.delete('/state/2');
    store.putAtomic('/state/new', bytes(3));
    const third = store.snapshot();
    store.compact();
    store.putAtomic('/state/1', bytes(8, 78));
    for (const snapshot of [first, second]) {
      expect(snapshot.size).toBe(10);
      expect(snapshot.list().map((key) => [snapshot.stat(key), snapshot.get(key)])).toEqual(expected);
      expect([snapshot.has('/state/new'), snapshot.has('/state/2')]).toEqual([false, true]);
      expect(codeThrown(() => snapshot.get('/state/new'))).toBe('ENOENT');
    }
    expect(third.get('/state/1')).toEqual(bytes(7, 77));
    expect(third.list('/state/', 3)).toEqual(['/state/0', '/state/1', '/state/3']);
    expect(store.get('/state/1')).toEqual(bytes(8, 78));
  });

  it('taken while compaction goes on stays as it was', () => {
    const store = open(formatted(2048), { compaction: 'manual' });
    for (let i = 0; i < 60; i++) store.put(`/state/${i}`, bytes(100, i));
    store.compactStep(4096);
    const snapshot = store.snapshot();
    for (let i = 0; i < 60; i += 2) store.put(`/state/${i}`, bytes(50, i));
    store.compact();
    for (let i = 0; i < 60; i++) expect(snapshot.get(`/state/${i}`)).toEqual(bytes(100, i));
    for (let i = 0; i < 60; i++) expect(store.get(`/state/${i}`)).toEqual(bytes(i % 2 === 0 ? 50 : 100, i));
  });

  it('keeps its region: the log moves once, and back only when it is closed', () => {
    const store = open(formatted(256));
    store.putAtomic('/state/kept', bytes(100));
    const snapshot = store.snapshot();
    let puts = 0;
    const code = codeThrown(() => {
      for (; puts < 1000; puts++) store.putAtomic('/state/hot', bytes(100, puts));
    });
    expect(code).toBe('ENOSPC');
    expect(() => store.putAtomic('/state/hot', bytes(100))).toThrow(/close the snapshot/);
    expect(codeThrown(() => store.compact())).toBe('EBUSY');
    expect(store.stats().compactions).toBe(1);
    expect(snapshot.get('/state/kept')).toEqual(bytes(100));
    expect(store.get('/state/hot')).toEqual(bytes(100, puts - 1));
    snapshot.close();
    snapshot.close();
    for (let i = 0; i < 500; i++) store.putAtomic('/state/hot', bytes(100, i));
    expect(codeThrown(() => snapshot.get('/state/kept'))).toBe('ECLOSED');
  });

  it('is bounded in number, and over with its store', () => {
    const store = open(formatted(), { budgets: { openSnapshots: 2 } });
    store.putAtomic('/state/a', bytes(1));
    const snapshot = store.snapshot();
    store.snapshot();
    expect(() => store.snapshot()).toThrow(/2 are open/);
    expect(codeThrown(() => store.snapshot())).toBe('EBUSY');
    snapshot.close();
    const last = store.snapshot();
    store.close();
    expect(codeThrown(() => last.get('/state/a'))).toBe('ECLOSED');
    expect(codeThrown(() => last.list())).toBe('ECLOSED');
  });

  it('takes the same arguments as its store, and none once it is closed', () => {
    const store = open(formatted());
    for (const key of ['/state/a/1', '/state/a/2', '/state/b']) store.put(key, bytes(3));
    const snapshot = store.snapshot();
    expect(snapshot.list('/state/a/')).toEqual(['/state/a/1', '/state/a/2']);
    expect(snapshot.list()).toEqual(store.list());
    expect(snapshot.list('/state/', 0)).toEqual([]);
    const uses = {
      get: (key: unknown) => snapshot.get(key as string),
      stat: (key: unknown) => snapshot.stat(key as string),
      has: (key: unknown) => snapshot.has(key as string),
    };
    for (const use of Object.values(uses)) {
      expect(codeThrown(() => use('/other/a'))).toBe('EINVAL');
      expect(() => use(7)).toThrow(TypeError);
    }
    expect(codeThrown(() => snapshot.list('/other'))).toBe('EINVAL');
    expect(() => snapshot.list('/state/', -1)).toThrow(/limit/);
    snapshot.close();
    for (const use of Object.values(uses)) expect(codeThrown(() => use('/state/b'))).toBe('ECLOSED');
    expect(codeThrown(() => snapshot.list())).toBe('ECLOSED');
  });
});
