import { describe, expect, it } from 'vitest';
import { exploreAsync, type KeyValueContent, type KeyValueOp, type Scenario } from '../../src/explore/index.ts';
import { GroupCommit, open, type StateFs } from '../../src/statefs/index.ts';
import { stateFsScenario } from '../../src/testing/index.ts';
import { bytes, FailingDevice, formatted, ioError } from './helpers.ts';

function counted(): { device: FailingDevice; store: StateFs } {
  const device = new FailingDevice(formatted());
  const store = open(device);
  // The first change of a life writes the superblock, and flushes it.
  store.putAtomic('/state/first', bytes(1));
  device.flushes = 0;
  return { device, store };
}

describe('group commit', () => {
  it('lets callers that arrive together share one flush, and those that come later have another', async () => {
    const { device, store } = counted();
    const commits = new GroupCommit(store);
    const puts = [1, 2, 3].map((n) => commits.commit((to) => to.put(`/state/${n}`, bytes(n))));
    expect(store.get('/state/3')).toEqual(bytes(3));
    expect(device.flushes).toBe(0);
    await Promise.all(puts);
    expect(device.flushes).toBe(1);
    expect(await commits.commit((to) => to.delete('/state/1', { durable: false }))).toBe(true);
    expect(device.flushes).toBe(2);
  });

  it('rejects the one whose change throws, and no other', async () => {
    const { device, store } = counted();
    const commits = new GroupCommit(store);
    const good = commits.commit((to) => to.put('/state/good', bytes(4)));
    await expect(commits.commit((to) => to.get('/state/none'))).rejects.toMatchObject({ code: 'ENOENT' });
    await good;
    expect(device.flushes).toBe(1);
  });

  it('refuses a change that goes on later', async () => {
    const { store } = counted();
    const later = new GroupCommit(store).commit(async (to) => to.put('/state/a', bytes(4)));
    await expect(later).rejects.toThrow(/synchronous/);
  });

  it('rejects all that waited for a flush that failed, and the next ones as the store does', async () => {
    const { device, store } = counted();
    const commits = new GroupCommit(store);
    const puts = [1, 2].map((n) => commits.commit((to) => to.put(`/state/${n}`, bytes(n))));
    device.before = (kind) => (kind === 'flush' ? ioError() : undefined);
    for (const { status } of await Promise.allSettled(puts)) expect(status).toBe('rejected');
    expect(store.isLatched).toBe(true);
    await expect(commits.commit((to) => to.put('/state/3', bytes(3)))).rejects.toMatchObject({ code: 'EIO' });
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
          if (op.kind === 'put') await commits.commit((store) => store.put(op.key, op.value));
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
        return change(store);
      },
    });
    const result = await exploreAsync(writersScenario(early));
    expect(result.violations.length).toBeGreaterThan(0);
  });
});
