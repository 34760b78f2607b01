import { describe, expect, it } from 'vitest';
import { exploreAsync, type KeyValueContent, type KeyValueOp, type Scenario } from '../../src/explore/index.ts';
import { GroupCommit, open, type StateFs } from '../../src/statefs/index.ts';
import { stateFsScenario } from '../../src/testing/index.ts';
import { bytes, FailingDevice, formatted, ioError, reopen } from './helpers.ts';

function counted(): { device: FailingDevice; store: StateFs } {
  const device = new FailingDevice(formatted());
  const store = open(device);
  // The first change of a life writes the superblock, and flushes it.
  store.putAtomic('/state/first', bytes(1));
  device.flushes = 0;
  return { device, store };
}

const names = [1, 2, 3].map((n) => `/state/${n}`);

describe('group commit', () => {
  it('lets callers that arrive together share one flush, and those that come later have another', async () => {
    const { device, store } = counted();
    const commits = new GroupCommit(store);
    const puts = names.map((name, n) => commits.commit((tx) => tx.put(name, bytes(n))));
    expect(device.flushes).toBe(0);
    await Promise.all(puts);
    expect(device.flushes).toBe(1);
    expect(store.list()).toEqual([...names, '/state/first']);
    expect(await commits.commit((tx) => tx.delete('/state/1'))).toBe(true);
    expect(await commits.commit((tx) => tx.delete('/state/1'))).toBe(false);
    expect(device.flushes).toBe(2);
  });

  it('writes what arrived together in one piece, and flushes twice where it is to be ordered', async () => {
    const { device, store } = counted();
    const { writes } = device;
    await Promise.all(names.map((name) => new GroupCommit(store).commit((tx) => tx.put(name, bytes(100)))));
    expect(device.writes).toBe(writes + 3);
    const commits = new GroupCommit(store);
    await Promise.all(names.map((name) => commits.commit((tx) => tx.put(name, bytes(100)))));
    expect(device.writes).toBe(writes + 4);
    device.flushes = 0;
    const ordered = new GroupCommit(store, { commit: 'ordered' });
    await Promise.all(names.map((name) => ordered.commit((tx) => tx.put(name, bytes(100)))));
    expect(device.flushes).toBe(2);
  });

  it('makes changes in the order of their callers, each seeing those before it', async () => {
    const { store } = counted();
    const commits = new GroupCommit(store);
    store.putAtomic('/state/count', Uint8Array.of(0));
    const raised = await Promise.all(
      names.map(() =>
        commits.commit((tx) => {
          const count = (tx.get('/state/count')[0] as number) + 1;
          tx.put('/state/count', Uint8Array.of(count));
          return count;
        }),
      ),
    );
    expect(raised).toEqual([1, 2, 3]);
    expect(store.get('/state/count')).toEqual(Uint8Array.of(3));
  });

  it('rejects the one whose change throws, undoes what it did, and leaves the others alone', async () => {
    const { device, store } = counted();
    const commits = new GroupCommit(store);
    const before = commits.commit((tx) => tx.put('/state/a', bytes(4)));
    const bad = commits.commit((tx) => {
      tx.put('/state/a', bytes(5));
      tx.put('/state/b', bytes(5));
      tx.delete('/state/first');
      throw new RangeError('no');
    });
    const after = commits.commit((tx) => tx.put('/state/c', bytes(6)));
    await expect(bad).rejects.toThrow(RangeError);
    await Promise.all([before, after]);
    expect(device.flushes).toBe(1);
    const later = reopen(device);
    expect(later.list()).toEqual(['/state/a', '/state/c', '/state/first']);
    expect(later.get('/state/a')).toEqual(bytes(4));
  });

  it('tells the one that the store refuses, and makes the rest without it', async () => {
    const device = new FailingDevice(formatted());
    const store = open(device, { quotas: [{ prefix: '/state/q', hard: { keys: 1 } }] });
    const commits = new GroupCommit(store);
    const outcomes = await Promise.allSettled(
      ['/state/a', '/state/q1', '/state/q2', '/state/z'].map((name) => commits.commit((tx) => tx.put(name, bytes(9)))),
    );
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
    expect((outcomes[2] as PromiseRejectedResult).reason).toMatchObject({ code: 'EDQUOT' });
    expect(reopen(device).list()).toEqual(['/state/a', '/state/q1', '/state/z']);
  });

  it('takes as many transactions as it needs, and still one flush', async () => {
    const device = new FailingDevice(formatted(8192));
    const store = open(device, { budgets: { transactionBytes: 2000 } });
    store.putAtomic('/state/first', bytes(1));
    const commits = new GroupCommit(store);
    device.flushes = 0;
    const sizes = [900, 900, 900, 2500, 900];
    const outcomes = await Promise.allSettled(
      sizes.map((size, n) => commits.commit((tx) => tx.put(`/state/${n}`, bytes(size)))),
    );
    expect(outcomes.map(({ status }) => status === 'fulfilled')).toEqual(sizes.map((size) => size < 2000));
    expect(device.flushes).toBe(1);
    const many = Array.from({ length: 200 }, (_, n) => commits.commit((tx) => tx.put(`/state/many/${n}`, bytes(3))));
    await Promise.all(many);
    expect(reopen(device).list('/state/many/')).toHaveLength(200);
  });

  it('refuses a change that goes on later', async () => {
    const { store } = counted();
    const later = new GroupCommit(store).commit(async (tx) => tx.put('/state/a', bytes(4)));
    await expect(later).rejects.toThrow(/synchronous/);
    expect(store.has('/state/a')).toBe(false);
  });

  it('rejects all that waited for a flush that failed, and the next ones as the store does', async () => {
    const { device, store } = counted();
    const commits = new GroupCommit(store);
    const puts = names.map((name, n) => commits.commit((tx) => tx.put(name, bytes(n))));
    device.before = (kind) => (kind === 'flush' ? ioError() : undefined);
    for (const { status } of await Promise.allSettled(puts)) expect(status).toBe('rejected');
    expect(store.isLatched).toBe(true);
    await expect(commits.commit((tx) => tx.put('/state/3', bytes(3)))).rejects.toMatchObject({ code: 'EIO' });
  });
});

const put = (writer: number, round: number): KeyValueOp => ({
  kind: 'put',
  key: `/state/writer/${writer}`,
  value: bytes(30 + writer, 10 * round + writer),
});

/** Three writers with two puts each, every one acknowledged when its promise is fulfilled. */
function writersScenario(
  commitsOf: (store: StateFs) => Pick<GroupCommit, 'commit'>,
): Scenario<KeyValueOp, KeyValueContent> {
  const base = stateFsScenario({ name: 'writers', description: '', sectorCount: 512, operations: [] });
  return {
    ...base,
    workload: async (device, run) => {
      const commits = commitsOf(open(device));
      const write = async (writer: number): Promise<void> => {
        for (const round of [0, 1]) {
          const op = put(writer, round);
          run.begin(op);
          if (op.kind === 'put') await commits.commit((tx) => tx.put(op.key, op.value));
          run.acknowledge(op);
        }
      };
      await Promise.all([0, 1, 2].map(write));
    },
  };
}

describe('a cut during group commits', () => {
  it('takes nothing that a caller was told of', async () => {
    const result = await exploreAsync(writersScenario((store) => new GroupCommit(store)));
    expect(result).toMatchObject({ complete: true, clean: true, violations: [] });
    expect(result.recoveries).toBeGreaterThan(100);
  });

  it('is noticed where callers are told before the flush', async () => {
    const early = (store: StateFs): Pick<GroupCommit, 'commit'> => ({
      commit: async (change) => {
        setImmediate(() => store.sync());
        return store.transaction(change, { durable: false });
      },
    });
    const result = await exploreAsync(writersScenario(early));
    expect(result.violations.length).toBeGreaterThan(0);
  });
});
