import { describe, expect, test } from 'vitest';
import { equalBytes, VirtualClock, VirtualTimers } from '../../src/core/index.ts';
import { profiles } from '../../src/faults/index.ts';
import { COMMAND, ERROR, NbdOptionError, REPLY } from '../../src/serve/index.ts';
import { pattern, serving } from './harness.ts';

const shutdown = expect.objectContaining({ name: 'NbdError', value: ERROR.shutdown });

describe('when the power fails', () => {
  test('clients get NBD_ESHUTDOWN until they connect again, also when the disk is back', async () => {
    const { connect, disk } = await serving();
    const client = await connect();
    await client.write(0, pattern(4096, 1));
    await client.flush();
    await client.write(8192, pattern(4096, 2));
    disk.cut();
    await expect(client.read(0, 512)).rejects.toEqual(shutdown);
    await expect(client.write(0, pattern(2 ** 20, 3))).rejects.toEqual(shutdown);
    await expect(client.flush()).rejects.toEqual(shutdown);
    await expect(client.trim(0, 512)).rejects.toEqual(shutdown);
    await expect(client.blockStatus(0, 512)).rejects.toEqual(shutdown);
    const refused = connect();
    await expect(refused).rejects.toBeInstanceOf(NbdOptionError);
    await expect(refused).rejects.toMatchObject({ type: REPLY.errShutdown });
    await expect(connect({ oldStyle: true })).rejects.toThrow(/closed/);
    disk.resolve('all-lost');
    disk.powerOn();
    // It does not know what was lost.
    await expect(client.write(0, pattern(512, 3))).rejects.toEqual(shutdown);
    const again = await connect();
    expect(equalBytes(await again.read(0, 4096), pattern(4096, 1))).toBe(true);
    expect((await again.read(8192, 4096)).every((byte) => byte === 0)).toBe(true);
  });

  test('or their connections end, where that is wanted', async () => {
    const { connect, disk } = await serving({ onCut: 'disconnect' });
    const client = await connect();
    disk.cut();
    await expect(client.read(0, 512)).rejects.toThrow();
    await client.disconnect();
    disk.resolve('all-kept');
    disk.powerOn();
    await (await connect()).disconnect();
  });

  test('at the nth write: that one is not acknowledged, those before were', async () => {
    const { connect, disk } = await serving();
    disk.scheduleCut({ nth: 5, of: 'write' });
    const client = await connect();
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) => client.write(i * 512, pattern(512, i))),
    );
    expect(results.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'fulfilled',
      'fulfilled',
      'rejected',
      'rejected',
      'rejected',
      'rejected',
    ]);
    // It had reached the cache: all-kept has it, and none after it.
    disk.resolve('all-kept');
    disk.powerOn();
    const again = await connect();
    const found = await again.read(0, 8 * 512);
    for (let i = 0; i < 8; i++) {
      const wanted = i < 5 ? pattern(512, i) : new Uint8Array(512);
      expect(equalBytes(found.subarray(i * 512, (i + 1) * 512), wanted), `sector ${i}`).toBe(true);
    }
  });

  test('before a write: nothing of it is there', async () => {
    const { connect, disk } = await serving();
    disk.scheduleCut({ of: 'write', when: 'before' });
    const client = await connect();
    await expect(client.write(0, pattern(512, 1), 1)).rejects.toEqual(shutdown);
    expect(disk.resolve('all-kept').undecidedSectors).toBe(0);
  });

  test('during a FUA write: it is not durable', async () => {
    const { connect, disk } = await serving();
    disk.scheduleCut({ of: 'write' });
    await expect((await connect()).write(0, pattern(512, 1), 1)).rejects.toEqual(shutdown);
    expect(disk.resolve('all-lost')).toMatchObject({ undecidedSectors: 1, lostSectors: 1 });
  });

  test('during a flush: it has promised nothing', async () => {
    const { connect, disk } = await serving();
    const client = await connect();
    disk.scheduleCut({ nth: 2, of: 'flush' });
    await client.write(0, pattern(512, 1));
    await client.flush();
    await client.write(0, pattern(512, 2));
    await expect(client.flush()).rejects.toEqual(shutdown);
    expect(disk.resolve('all-lost').undecidedSectors).toBe(1);
    disk.powerOn();
    expect(equalBytes(await (await connect()).read(0, 512), pattern(512, 1))).toBe(true);
  });

  test('at a sector: other places do not count', async () => {
    const { connect, disk } = await serving();
    disk.scheduleCut({ of: 'write', firstSector: 100, lastSector: 103 });
    const client = await connect();
    await client.write(0, pattern(512, 1));
    await client.write(104 * 512, pattern(512, 1));
    await client.write(96 * 512, pattern(4 * 512, 1));
    await client.read(100 * 512, 512);
    await expect(client.write(90 * 512, pattern(12 * 512, 1))).rejects.toEqual(shutdown);
  });

  test('in the midst of a long read: an error chunk, or the end of the connection', async () => {
    for (const structured of [true, false]) {
      const { connect, disk } = await serving({ sectorCount: 65_536 });
      const client = await connect({ structured });
      await client.write(0, pattern(2 ** 22, 1));
      disk.scheduleCut({ nth: 5, of: 'read' });
      const read = client.read(0, 2 ** 22);
      if (structured) await expect(read).rejects.toEqual(shutdown);
      else await expect(read).rejects.toMatchObject({ code: 'EIO' });
    }
  });

  test('a torn write is seen: each sector by itself is old or new', async () => {
    const { connect, disk } = await serving({ profile: profiles['nvme-512'] });
    const client = await connect();
    await client.write(0, pattern(64 * 512, 1));
    await client.flush();
    disk.scheduleCut({ of: 'write' });
    await expect(client.write(0, pattern(64 * 512, 2))).rejects.toEqual(shutdown);
    const { lostSectors, undecidedSectors } = disk.resolve({ seed: 3 });
    disk.powerOn();
    const found = await (await connect()).read(0, 64 * 512);
    let old = 0;
    for (let at = 0; at < found.length; at += 512) {
      const sector = found.subarray(at, at + 512);
      const isOld = equalBytes(sector, pattern(64 * 512, 1).subarray(at, at + 512));
      expect(isOld || equalBytes(sector, pattern(64 * 512, 2).subarray(at, at + 512))).toBe(true);
      if (isOld) old++;
    }
    expect([undecidedSectors, lostSectors]).toEqual([64, old]);
    expect(old).toBeGreaterThan(10);
    expect(old).toBeLessThan(54);
  });
});

describe('latency', () => {
  test('holds success back, of each kind so long, and requests overtake each other', async () => {
    const clock = new VirtualClock();
    const timers = new VirtualTimers(clock);
    const { connect, disk } = await serving({ clock, timers });
    const client = await connect();
    disk.latency.set({ read: 10, write: 30, flush: 20 });
    const order: string[] = [];
    const note = (what: string) => () => void order.push(what);
    const all = [
      client.write(0, pattern(512, 1)).then(note('write')),
      client.read(0, 512).then(note('read')),
      client.flush().then(note('flush')),
      client.writeZeroes(512, 512).then(note('zeros')),
    ];
    while (timers.size < 4) await new Promise((resolve) => setImmediate(resolve));
    await Promise.all(all.slice(3));
    expect(order).toEqual(['zeros']);
    timers.advance(100);
    await Promise.all(all);
    expect(order).toEqual(['zeros', 'read', 'flush', 'write']);
    disk.latency.set({});
    await client.read(0, 512);
  });

  test('a power cut while a reply is held back: the request fails, and what it wrote may be there', async () => {
    const clock = new VirtualClock();
    const timers = new VirtualTimers(clock);
    const { connect, disk } = await serving({ clock, timers });
    const client = await connect();
    disk.latency.set({ write: 50, read: 50 });
    const [write, read] = [client.write(0, pattern(512, 1)), client.request(COMMAND.read, 0, 512, 0)];
    const settled = Promise.allSettled([write, read]);
    while (timers.size < 3) await new Promise((resolve) => setImmediate(resolve));
    disk.cut();
    timers.advance(60);
    for (const result of await settled) expect(result).toEqual({ status: 'rejected', reason: shutdown });
    expect(disk.resolve('all-kept').undecidedSectors).toBe(1);
  });

  test('a client that disconnects gets the replies that are held back first', async () => {
    const { connect, disk } = await serving();
    disk.latency.set({ read: 20 });
    const client = await connect();
    const reads = Array.from({ length: 5 }, () => client.read(0, 512));
    const end = client.disconnect();
    for (const bytes of await Promise.all(reads)) expect(bytes.length).toBe(512);
    await end;
  });
});
