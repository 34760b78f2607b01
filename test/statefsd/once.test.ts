import { describe, expect, test } from 'vitest';
import { DeviceError, equalBytes, VirtualClock } from '../../src/core/index.ts';
import { SimulatedDisk } from '../../src/faults/index.ts';
import { format } from '../../src/statefs/index.ts';
import { MAX_CLIENTS_PER_SUBJECT, type OnceNonce, type StateFsClient } from '../../src/statefsd/index.ts';
import { OnceTable } from '../../src/statefsd/once.ts';
import { FailingDevice } from '../statefs/helpers.ts';
import { codeOfRejection, formattedDevice, openStore, payloadOf, World } from './helpers.ts';

const KEY = '/state/boot/slot';
const [OLD, MINE, OTHER] = [payloadOf(40, 1), payloadOf(40, 2), payloadOf(40, 3)];
const META = { ts: 1_700_000_000_000, purpose: 'switch' };
const NONCE: OnceNonce = { client: new Uint8Array(8).fill(5), serial: 1 };

const again = { nonce: NONCE, again: true };
const first = { nonce: NONCE };

describe('a put with a nonce', () => {
  test('is done once, however often it is asked for', async () => {
    const world = new World();
    const [client, other] = [world.client('root'), world.client('root')];
    expect((await world.settle(client.putAtomic(KEY, MINE, META, first))).repeated).toBe(false);
    await world.settle(other.putAtomic(KEY, OTHER));
    expect((await world.settle(client.putAtomic(KEY, MINE, META, again))).repeated).toBe(true);
    expect(await world.settle(client.get(KEY))).toEqual(OTHER);
  });

  test('is remembered across a restart of the server', async () => {
    const device = formattedDevice();
    const world = new World({ device });
    await world.settle(world.client('root').putAtomic(KEY, MINE, META, first));
    await world.settle(world.client('root').putAtomic(KEY, OTHER));
    // Killed: neither stopped nor closed.
    const next = new World({ device });
    expect((await next.settle(next.client('root').putAtomic(KEY, MINE, META, again))).repeated).toBe(true);
    expect(await next.settle(next.client('root').get(KEY))).toEqual(OTHER);
  });

  test('that failed can be asked again, also after a restart, and is done then', async () => {
    const clock = new VirtualClock(1_700_000_000_000);
    let writeMs = 0;
    const latency = { latencyMs: (kind: string) => (kind === 'write' ? writeMs : 0) };
    const disk = new SimulatedDisk({ sectorCount: 4096, latency, clock });
    format(disk, { storeId: new Uint8Array(16).fill(3) });
    const world = new World({ device: disk, clock });
    const client = world.client('root');
    const large = payloadOf(20_000);
    writeMs = 30;
    const late = client.putAtomic(KEY, large, META, { ...first, deadlineMs: 50 });
    expect(await codeOfRejection(world.settle(late))).toBe('EDEADLINE');
    writeMs = 0;
    // A group behind the record of the put that was not done.
    await world.settle(client.putAtomic('/state/later', OTHER));
    const next = new World({ device: disk, clock });
    const receipt = await next.settle(next.client('root').putAtomic(KEY, large, META, again));
    expect(receipt.repeated).toBe(false);
    expect(await next.settle(next.client('root').get(KEY))).toEqual(large);
  });

  test('for which there is no room leaves no record that says it was done', async () => {
    const device = formattedDevice(200);
    const world = new World({ device });
    const client = world.client('root');
    const put = (to: World, options: object) =>
      codeOfRejection(to.settle(to.client('root').putAtomic(KEY, payloadOf(60_000), META, options)));
    expect(await put(world, first)).toBe('ENOSPC');
    await world.settle(client.putAtomic('/state/later', OTHER));
    const next = new World({ device });
    expect(await put(next, again)).toBe('ENOSPC');
  });

  test('is bound to its key, its payload and its metadata', async () => {
    const world = new World();
    const client = world.client('root');
    const put = (key: string, value: Uint8Array, meta: object) =>
      codeOfRejection(world.settle(client.putAtomic(key, value, meta, again)));
    await world.settle(client.putAtomic(KEY, MINE, META, first));
    expect(await put('/state/other', MINE, META)).toBe('EINVAL');
    expect(await put(KEY, OTHER, META)).toBe('EINVAL');
    expect(await put(KEY, MINE, { ...META, ts: 1 })).toBe('EINVAL');
    expect(await put(KEY, MINE, META)).toBe('none');
  });

  test('that is behind another one of its client is refused', async () => {
    const world = new World();
    const client = world.client('root');
    await world.settle(client.putAtomic(KEY, MINE, META, { nonce: { ...NONCE, serial: 5 } }));
    const behind = client.putAtomic(KEY, MINE, META, { nonce: { ...NONCE, serial: 4 } });
    expect(await codeOfRejection(world.settle(behind))).toBe('EINVAL');
  });

  test("is its subject's: another one with the same nonce is another put", async () => {
    const world = new World();
    await world.settle(world.client('root').putAtomic(KEY, MINE, META, first));
    const receipt = await world.settle(world.client('app.a').putAtomic('/state/apps/a/x', MINE, META, again));
    expect(receipt.repeated).toBe(false);
  });

  test('of a client that was forgotten is in doubt when asked again, never done twice', async () => {
    const world = new World({ device: formattedDevice(8192) });
    const client = world.client('root');
    const nonceOf = (i: number): OnceNonce => ({ client: new Uint8Array(8).fill(i + 1), serial: 1 });
    for (let i = 0; i <= MAX_CLIENTS_PER_SUBJECT; i++) {
      await world.settle(client.putAtomic(`/state/${i}`, MINE, META, { nonce: nonceOf(i) }));
    }
    await world.settle(client.putAtomic('/state/0', OTHER));
    const forgotten = client.putAtomic('/state/0', MINE, META, { nonce: nonceOf(0), again: true });
    await expect(world.settle(forgotten)).rejects.toMatchObject({ code: 'EIO', inDoubt: true });
    expect(await world.settle(client.get('/state/0'))).toEqual(OTHER);
    // Those that came later are still known.
    const known = client.putAtomic('/state/5', MINE, META, { nonce: nonceOf(5), again: true });
    expect((await world.settle(known)).repeated).toBe(true);
    expect(world.service.store.list('/state/.statefsd/').length).toBe(MAX_CLIENTS_PER_SUBJECT);
  });

  test('that is refused when asked again, before the server looked, stays in doubt', async () => {
    const world = new World();
    const client = world.client('root');
    await world.settle(client.putAtomic(KEY, MINE, META, first));
    const { policy } = world.authority;
    world.authority.replace({ ...policy, rules: [] });
    await expect(world.settle(client.putAtomic(KEY, MINE, META, again))).rejects.toMatchObject({
      code: 'EPERM',
      inDoubt: true,
    });
    await expect(world.settle(client.putAtomic(KEY, MINE, META))).rejects.toMatchObject({ inDoubt: false });
  });

  test('whose commit failed on the disk stays in doubt when asked again, until the server is restarted', async () => {
    const device = new FailingDevice(formattedDevice());
    const world = new World({ device });
    const client = world.client('root');
    await world.settle(client.putAtomic(KEY, OLD));
    device.before = (kind) => {
      if (kind === 'flush') throw new DeviceError('EIO', 'the medium failed');
    };
    const inDoubt = { code: 'EIO', inDoubt: true };
    await expect(world.settle(client.putAtomic(KEY, MINE, META, first))).rejects.toMatchObject(inDoubt);
    await expect(world.settle(client.putAtomic(KEY, MINE, META, again))).rejects.toMatchObject(inDoubt);
    device.before = () => {};
    const next = new World({ device });
    // The group had reached this disk, though its flush failed.
    expect((await next.settle(next.client('root').putAtomic(KEY, MINE, META, again))).repeated).toBe(true);
  });

  test('asked under half a nonce is EINVAL', async () => {
    const world = new World();
    const nothing = new Uint8Array(8);
    const client = world.client('root');
    await expect(client.putAtomic(KEY, MINE, META, { nonce: { client: nothing, serial: 1 } })).rejects.toThrow(
      RangeError,
    );
    await expect(client.putAtomic(KEY, MINE, META, { nonce: { ...NONCE, serial: 0 } })).rejects.toThrow(RangeError);
    await expect(client.putAtomic(KEY, MINE, META, { again: true })).rejects.toThrow(TypeError);
  });
});

/** Where the workload's power is cut: nowhere, or at its n-th write or flush. */
interface Cut {
  readonly nth: number;
  readonly of: 'write' | 'flush';
}

/**
 * One run: the old value is there; my put with a nonce is under way, in one batch with another client's put of the same
 * key behind it, when the power fails. After the restart a third value may come between before I ask again.
 * @param forgets breaks the server on purpose: it remembers nothing across the restart
 * @returns the values that the key had, as far as anyone could see, in order
 */
async function run(cut: Cut, keptSeed: number, comesBetween: boolean, forgets = false): Promise<string[]> {
  const clock = new VirtualClock(1_700_000_000_000);
  const disk = new SimulatedDisk({ sectorCount: 1024 });
  format(disk, { storeId: new Uint8Array(16).fill(3) });
  const before = new World({ device: disk, clock });
  await before.settle(before.client('root').putAtomic(KEY, OLD));
  disk.scheduleCut({ nth: cut.nth, of: cut.of });
  const seen: string[] = [];
  const acked = await before.settle(
    Promise.all([
      outcome(before.client('root').putAtomic(KEY, MINE, META, first)),
      outcome(before.client('root').putAtomic('/state/unrelated', OTHER)),
    ]),
  );
  if (disk.powered) disk.cut();
  disk.powerOn({ seed: keptSeed });

  if (forgets) {
    const store = openStore(disk, clock);
    for (const key of store.list('/state/.statefsd/')) store.delete(key);
  }
  const after = new World({ device: disk, clock });
  const client = after.client('root');
  seen.push(await look(after, client));
  if (acked[0] === 'done' && seen[0] !== 'mine') throw new Error('an acknowledged put is gone');
  if (comesBetween) {
    await after.settle(after.client('root').putAtomic(KEY, OTHER));
    seen.push('other');
  }
  const { repeated } = await after.settle(client.putAtomic(KEY, MINE, META, again));
  if (repeated && seen[0] !== 'mine') throw new Error('the server says that it was done, and it was not');
  seen.push(await look(after, client));
  return seen;
}

async function outcome(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'done',
    ({ inDoubt }: { inDoubt: boolean }) => (inDoubt ? 'doubt' : 'failed'),
  );
}

async function look(world: World, client: StateFsClient): Promise<string> {
  const value = await world.settle(client.get(KEY));
  for (const [name, one] of Object.entries({ old: OLD, mine: MINE, other: OTHER }))
    if (equalBytes(value, one)) return name;
  throw new Error('the key has a value that nobody put');
}

/** What is seen over every cut, a few fates of what was not durable, with and without a put between. */
async function explore(forgets: boolean): Promise<string[]> {
  const seen = new Set<string>();
  for (const of of ['write', 'flush'] as const) {
    for (let nth = 1; nth <= (of === 'write' ? 8 : 3); nth++) {
      for (let seed = 0; seed < 6; seed++) {
        for (const comesBetween of [false, true])
          seen.add((await run({ nth, of }, seed, comesBetween, forgets)).join(' '));
      }
    }
  }
  return [...seen].sort();
}

test('at every cut, a put that is asked again takes effect exactly once', async () => {
  // Mine shows once: before what came between, or after it, and never on both sides of it.
  expect(await explore(false)).toEqual(['mine mine', 'mine other other', 'old mine', 'old other mine']);
});

test('a server that forgets would let it take effect twice, and that is seen', async () => {
  expect(await explore(true)).toContain('mine other mine');
});

test('the record and the put are one group of the log, and one flush makes both durable', async () => {
  const device = new FailingDevice(formattedDevice());
  const world = new World({ device });
  const client = world.client('root');
  await world.settle(client.putAtomic('/state/first', OLD));
  const { lastSequence } = world.service.store.stats();
  device.flushes = 0;
  await world.settle(client.putAtomic(KEY, MINE, META, first));
  expect(world.service.store.stats().lastSequence).toBe(lastSequence + 1);
  expect(device.flushes).toBe(1);
});

test('records that make no sense are no memory, and no harm', () => {
  const device = formattedDevice();
  const store = openStore(device, new VirtualClock());
  const request = { ...NONCE, again: true, digest: new Uint8Array(32) };
  store.putAtomic('/state/.statefsd/once/root/0', payloadOf(3));
  store.putAtomic('/state/.statefsd/once/root/99', payloadOf(56));
  store.putAtomic('/state/.statefsd/once/root', payloadOf(56));
  store.putAtomic('/state/.statefsd/once/a/b/c', payloadOf(56));
  expect(new OnceTable(store).judge('root', request)).toBe('new');
});
