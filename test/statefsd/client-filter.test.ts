import { describe, expect, test } from 'vitest';
import {
  type AbiFilter,
  baselinePolicy,
  type Connector,
  deriveFilter,
  StateFsClient,
} from '../../src/statefsd/index.ts';
import { codeRejected } from './code-thrown.ts';

/** A channel that counts what is written to it, and never answers. */
function countingClient(filter: AbiFilter) {
  const counts = { connections: 0, frames: 0 };
  const connect: Connector = (handlers) => {
    counts.connections++;
    handlers.opened({ write: () => void counts.frames++, close: () => {} });
    return () => {};
  };
  return { counts, client: new StateFsClient({ connect, filter }) };
}

const BYTES = Uint8Array.of(1, 2, 3);
type Call = (client: StateFsClient, path: string) => Promise<unknown>;
const calls: Record<string, Call> = {
  putAtomic: (client, path) => client.putAtomic(path, BYTES),
  'putAtomic with a nonce': (client, path) => client.putAtomic(path, BYTES, {}, { nonce: true }),
  put: (client, path) => client.put(path, BYTES),
  'put, not atomic': (client, path) => client.put(path, BYTES, { atomic: false }),
  get: (client, path) => client.get(path),
  read: (client, path) => client.read(path),
  delete: (client, path) => client.delete(path),
  list: (client, path) => client.list(`${path}/`),
};

describe('a call that the ABI filter denies sends nothing', () => {
  test.each(Object.keys(calls))('%s', async (name) => {
    const { client, counts } = countingClient(deriveFilter(baselinePolicy(['calc']), 'app.calc'));
    const call = calls[name] as Call;
    for (const path of ['/state/keystore/device.key', '/state/apps/calculator/x', '/state/apps/calc/../../boot/x']) {
      expect([path, await codeRejected(() => call(client, path))]).toEqual([path, 'EPERM']);
    }
    expect(counts).toEqual({ connections: 0, frames: 0 });
    // The same call, where it is allowed, does send: so the counts mean something.
    const waiting = call(client, '/state/apps/calc/x');
    await Promise.resolve();
    expect(counts).toEqual({ connections: 1, frames: 1 });
    client.close();
    await expect(waiting).rejects.toThrow();
  });

  test('of the store as a whole', async () => {
    const { client, counts } = countingClient(deriveFilter({ subjects: ['a'], rules: [], budgets: [] }, 'a'));
    for (const call of [() => client.sync(), () => client.stats(), () => client.reopen()]) {
      await expect(call()).rejects.toThrow(/the ABI filter of a does not allow it: nothing was sent/);
    }
    expect(counts).toEqual({ connections: 0, frames: 0 });
  });
});
