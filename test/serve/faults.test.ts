import { describe, expect, test } from 'vitest';
import { equalBytes, VirtualClock, VirtualTimers } from '../../src/core/index.ts';
import { mediaFaultKinds } from '../../src/faults/index.ts';
import { ERROR, FLAG, type ServedFault } from '../../src/serve/index.ts';
import { type Controlled, controlled, pattern, type ServingOptions } from './harness.ts';

describe('faults of the medium', () => {
  async function faulty(fault: ServedFault, options?: ServingOptions): Promise<Controlled> {
    const world = await controlled(options);
    const nbd = await world.connect();
    await nbd.write(0, pattern(8192, 1));
    await nbd.flush();
    await world.control.send('fault', { ...fault });
    return world;
  }
  async function fired(control: Controlled['control']): Promise<number> {
    const { faultsFired } = await control.send('status');
    return Object.values(faultsFired as Record<string, number>).reduce((sum, count) => sum + count, 0);
  }
  const eio = expect.objectContaining({ value: ERROR.io });

  test('read-error: EIO the second and third time, then never again', async () => {
    const { connect: client, control } = await faulty({ kind: 'read-error', nth: 2, times: 2 });
    const nbd = await client();
    await nbd.read(0, 512);
    for (let i = 0; i < 2; i++) await expect(nbd.read(0, 512)).rejects.toEqual(eio);
    await nbd.read(0, 512);
    expect(await control.send('status')).toMatchObject({ faultsFired: { 'read-error': 2 } });
  });

  test('write-error: nothing is written, and elsewhere all is well', async () => {
    const { connect: client } = await faulty({ kind: 'write-error', firstSector: 2, lastSector: 3 });
    const nbd = await client();
    await expect(nbd.write(0, pattern(4096, 2))).rejects.toEqual(eio);
    await expect(nbd.writeZeroes(1024, 512)).rejects.toEqual(eio);
    await nbd.write(2048, pattern(512, 3));
    expect(equalBytes(await nbd.read(0, 2048), pattern(8192, 1).subarray(0, 2048))).toBe(true);
  });

  test('write-error: of a first part it is true, and the rest is not written', async () => {
    const { connect: client } = await faulty({ kind: 'write-error', times: 1, writtenSectors: 3 });
    const nbd = await client();
    await expect(nbd.write(0, pattern(8192, 2))).rejects.toEqual(eio);
    const found = await nbd.read(0, 8192);
    expect(equalBytes(found.subarray(0, 1536), pattern(8192, 2).subarray(0, 1536))).toBe(true);
    expect(equalBytes(found.subarray(1536), pattern(8192, 1).subarray(1536))).toBe(true);
  });

  test('flush-error: what waited is read, and no later flush makes it durable until it is written again', async () => {
    const { connect: client, disk } = await faulty({ kind: 'flush-error', times: 1 });
    const nbd = await client();
    await nbd.write(0, pattern(512, 2));
    await nbd.write(512, pattern(512, 3));
    await expect(nbd.flush()).rejects.toEqual(eio);
    await nbd.write(512, pattern(512, 4));
    await nbd.flush();
    expect(equalBytes(await nbd.read(0, 512), pattern(512, 2))).toBe(true);
    disk.cut();
    expect(disk.resolve('all-lost').lostSectors).toBe(1);
    disk.powerOn();
    const found = await (await client()).read(0, 1024);
    expect(equalBytes(found.subarray(0, 512), pattern(512, 1))).toBe(true);
    expect(equalBytes(found.subarray(512), pattern(512, 4))).toBe(true);
  });

  test('misdirected-write: success; another place is overwritten, and the right one has its old bytes', async () => {
    const { connect: client, control } = await faulty({ kind: 'misdirected-write', firstSector: 2, times: 1 });
    await control.send('fault', { kind: 'misdirected-write', firstSector: 8, toSector: 4095 });
    const nbd = await client();
    await nbd.write(1024, pattern(1024, 9));
    await nbd.write(4096, pattern(1024, 8), FLAG.fua);
    const wanted = new Uint8Array(4096 * 512);
    wanted.set(pattern(8192, 1));
    // One bit of the address is wrong, the lowest one that leads away from where it should go.
    wanted.set(pattern(1024, 9), 0);
    // It would reach beyond the end of the disk.
    wanted.set(pattern(1024, 8), 4094 * 512);
    expect(equalBytes(await nbd.read(0, wanted.length), wanted)).toBe(true);
    expect(await control.send('status')).toMatchObject({ faultsFired: { 'misdirected-write': 2 } });
  });

  test('misdirected-read: the bytes of another place', async () => {
    const { connect: client } = await faulty({ kind: 'misdirected-read', firstSector: 0, times: 1, toSector: 5 });
    const nbd = await client();
    expect(equalBytes(await nbd.read(0, 1024), pattern(8192, 1).subarray(2560, 3584))).toBe(true);
    expect(equalBytes(await nbd.read(0, 1024), pattern(8192, 1).subarray(0, 1024))).toBe(true);
  });

  test('stale-read: as before the last write, until the fault is cleared or the power fails', async () => {
    const { connect: client, control, disk } = await faulty({ kind: 'stale-read', firstSector: 1, lastSector: 2 });
    const nbd = await client();
    const seeds = async (): Promise<number[]> => {
      const found = await (await client()).read(0, 2048);
      return [0, 1, 2, 3].map((sector) =>
        [1, 2, 3].findIndex((seed) =>
          equalBytes(
            found.subarray(sector * 512, sector * 512 + 512),
            pattern(2048, seed).subarray(sector * 512, sector * 512 + 512),
          ),
        ),
      );
    };
    expect(await seeds()).toEqual([0, 0, 0, 0]);
    await nbd.write(0, pattern(2048, 2));
    expect(await seeds()).toEqual([1, 0, 0, 1]);
    await nbd.write(512, pattern(2048, 3).subarray(512, 1024));
    expect(await seeds()).toEqual([1, 1, 0, 1]);
    disk.cut();
    disk.resolve('all-kept');
    disk.powerOn();
    expect(await seeds()).toEqual([1, 2, 1, 1]);
    await (await client()).writeZeroes(512, 512);
    expect(await seeds()).toEqual([1, 2, 1, 1]);
    await control.send('clear-faults', { kind: 'stale-read' });
    expect(await seeds()).toEqual([1, -1, 1, 1]);
  });

  test('hung-request: no answer, while others get theirs; it completes when the fault is cleared', async () => {
    const { connect: client, control } = await faulty({ kind: 'hung-request', firstSector: 4, times: 2 });
    const nbd = await client();
    const done: string[] = [];
    const write = nbd.write(2048, pattern(512, 5)).then(() => done.push('write'));
    const read = nbd.read(2048, 512).then((bytes) => done.push(equalBytes(bytes, pattern(512, 6)) ? 'read' : 'wrong'));
    await nbd.write(0, pattern(512, 3));
    // The fault is used up: the place is written, and the read that hangs has not been carried out yet.
    await nbd.write(2048, pattern(512, 6));
    await nbd.flush();
    expect(done).toEqual([]);
    expect(await control.send('status')).toMatchObject({ faultsFired: { 'hung-request': 2 } });
    await control.send('clear-faults', { kind: 'hung-request' });
    await Promise.all([write, read]);
    expect(done.sort()).toEqual(['read', 'write']);
  });

  test('hung-request: a flush makes nothing durable until it goes on', async () => {
    const { connect: client, control, disk } = await faulty({ kind: 'hung-request', of: 'flush' });
    const nbd = await client();
    await nbd.write(0, pattern(512, 3));
    const flush = nbd.flush();
    await nbd.read(0, 512);
    expect(disk.dirtySectorCount).toBe(1);
    await control.send('clear-faults');
    await flush;
    expect(disk.dirtySectorCount).toBe(0);
  });

  test('hung-request: a power cut ends it, and what hung fails', async () => {
    const { connect: client, control, disk } = await faulty({ kind: 'hung-request' });
    const nbd = await client();
    const all = [nbd.write(0, pattern(512, 3)), nbd.flush(), nbd.read(0, 512), nbd.trim(512, 512)];
    const results = Promise.allSettled(all);
    while ((await fired(control)) < all.length);
    disk.cut();
    for (const result of await results)
      expect(result).toMatchObject({ status: 'rejected', reason: { value: ERROR.shutdown } });
    expect(disk.resolve('all-lost').lostSectors).toBe(2);
    disk.powerOn();
    expect(disk.faults.none).toBe(true);
    await (await client()).flush();
  });

  test('hung-request: a client that goes, in order or not, leaves nothing behind', async () => {
    const { connect: client, control, server } = await faulty({ kind: 'hung-request', of: 'read' });
    const [orderly, sudden] = [await client(), await client()];
    const reads = Promise.allSettled([orderly.read(0, 512), sudden.read(0, 512)]);
    while ((await fired(control)) < 2);
    await orderly.disconnect();
    sudden.destroy();
    for (const { status } of await reads) expect(status).toBe('rejected');
    while (server.statistics.connections > 1) await new Promise((resolve) => setImmediate(resolve));
    await control.send('clear-faults');
  });

  test('hung-request: one client can keep only so many of them', async () => {
    const { connect: client, control } = await faulty({ kind: 'hung-request', of: 'read' });
    const nbd = await client();
    const reads = Array.from({ length: 1500 }, () => nbd.read(0, 512));
    while ((await fired(control)) < 1024);
    for (let i = 0; i < 20; i++) await control.send('status');
    expect(await fired(control)).toBe(1024);
    await control.send('clear-faults');
    for (const bytes of await Promise.all(reads)) expect(bytes.length).toBe(512);
  });

  test('latency-spike: one operation takes longer', async () => {
    const timers = new VirtualTimers(new VirtualClock());
    const { connect: client } = await faulty({ kind: 'latency-spike', of: 'write', nth: 2, times: 1, delayMs: 70 });
    const spiky = await faulty({ kind: 'latency-spike', of: 'write', nth: 2, times: 1, delayMs: 70 }, { timers });
    await (await client()).write(0, pattern(512, 1));
    const nbd = await spiky.connect();
    const before = timers.size;
    await nbd.write(0, pattern(512, 1));
    const second = nbd.write(0, pattern(512, 2));
    await nbd.write(512, pattern(512, 3));
    expect(timers.size).toBe(before + 1);
    timers.advance(69);
    await nbd.read(0, 512);
    expect(timers.size).toBe(before + 1);
    timers.advance(1);
    await second;
  });

  test.each(mediaFaultKinds)('%s: it counts what it fires, and a disk without it is as it should be', async (kind) => {
    const { connect: client, control } = await controlled();
    const nbd = await client();
    const options: Partial<ServedFault> = {
      ...(['bit-rot', 'latent-error', 'stale-read'].includes(kind) && { firstSector: 0, lastSector: 7 }),
      ...(kind === 'latency-spike' && { delayMs: 1 }),
    };
    await nbd.write(0, pattern(4096, 1));
    await control.send('fault', { kind, times: 1, ...options });
    const work = Promise.allSettled([nbd.write(512, pattern(512, 2)), nbd.read(0, 4096), nbd.flush()]);
    while ((await fired(control)) < 1);
    await control.send('clear-faults');
    await work;
    expect(await control.send('status')).toMatchObject({ faults: [], faultsFired: { [kind]: 1 } });
    await nbd.write(0, pattern(8192, 4));
    expect(equalBytes(await nbd.read(0, 8192), pattern(8192, 4))).toBe(true);
    await nbd.flush();
  });

  test('latent-error: until it is rewritten', async () => {
    const { connect: client } = await faulty({ kind: 'latent-error', firstSector: 3 });
    const nbd = await client();
    for (let i = 0; i < 3; i++) await expect(nbd.read(0, 4096)).rejects.toEqual(eio);
    await nbd.read(0, 3 * 512);
    await nbd.write(3 * 512, pattern(512, 5));
    await nbd.read(0, 4096);
  });

  test('bit-rot: one bit, on every read, until it is rewritten or the fault is cleared', async () => {
    const { connect: client, control } = await faulty({ kind: 'bit-rot', firstSector: 1, lastSector: 2, bit: 803 });
    const nbd = await client();
    const wanted = pattern(8192, 1).slice(0, 4096);
    const rotten = wanted.slice();
    for (const sector of [1, 2]) rotten[sector * 512 + 100] = (rotten[sector * 512 + 100] as number) ^ 8;
    for (let i = 0; i < 2; i++) expect(equalBytes(await nbd.read(0, 4096), rotten)).toBe(true);
    await nbd.write(512, wanted.subarray(512, 1024));
    rotten.set(wanted.subarray(512, 1024), 512);
    expect(equalBytes(await nbd.read(0, 4096), rotten)).toBe(true);
    expect(await control.send('clear-faults', { kind: 'bit-rot' })).toEqual({ cleared: 1, faults: [] });
    expect(equalBytes(await nbd.read(0, 4096), wanted)).toBe(true);
  });

  test('lost-write: success, and the old bytes', async () => {
    const { connect: client } = await faulty({ kind: 'lost-write', times: 1 });
    const nbd = await client();
    await nbd.write(0, pattern(512, 9), FLAG.fua);
    expect(equalBytes(await nbd.read(0, 512), pattern(512, 1))).toBe(true);
    await nbd.write(0, pattern(512, 9));
    expect(equalBytes(await nbd.read(0, 512), pattern(512, 9))).toBe(true);
  });

  test('lying-flush: neither a flush nor FUA makes durable, and when it is cleared both do', async () => {
    const { connect: client, control, disk } = await faulty({ kind: 'lying-flush' });
    const nbd = await client();
    await nbd.write(0, pattern(512, 2));
    await nbd.flush();
    await nbd.write(512, pattern(512, 2), FLAG.fua);
    disk.cut();
    expect(disk.resolve('all-lost').lostSectors).toBe(2);
    disk.powerOn();
    await control.send('clear-faults');
    const again = await client();
    await again.write(0, pattern(512, 2));
    await again.flush();
    await again.write(512, pattern(512, 2), FLAG.fua);
    disk.cut();
    expect(disk.resolve('all-lost').lostSectors).toBe(0);
  });

  test.each([
    [{ kind: 'other' }, /kind/],
    [{ kind: 'bit-rot' }, /where/],
    [{ kind: 'latent-error', firstSector: 0, lastSector: 1e9 }, /65536/],
    [{ kind: 'lying-flush', firstSector: 1 }, /no place/],
    [{ kind: 'read-error', lastSector: 1 }, /goes with firstSector/],
    [{ kind: 'read-error', bit: 1 }, /bit-rot/],
    [{ kind: 'stale-read', firstSector: 0, lastSector: 4096 }, /4096/],
    [{ kind: 'misdirected-write', toSector: 4096 }, /4095/],
    [{ kind: 'lost-write', toSector: 1 }, /misdirected-read and misdirected-write/],
    [{ kind: 'write-error', writtenSectors: -1 }, /writtenSectors/],
    [{ kind: 'hung-request', of: 'fly' }, /writeZeroes/],
    [{ kind: 'hung-request', of: 'flush', firstSector: 1 }, /no place/],
    [{ kind: 'hung-request', delayMs: 5 }, /latency-spike/],
    [{ kind: 'latency-spike' }, /delayMs/],
    [{ kind: 'latency-spike', delayMs: 1e12 }, /delayMs/],
    [{ kind: 'read-error', times: 0 }, /times/],
  ])('%j is refused', async (fault, message) => {
    const { control, disk } = await controlled();
    await expect(control.send('fault', fault)).rejects.toThrow(message);
    expect(disk.faults.none).toBe(true);
  });
});
