import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { equalBytes, systemTimers } from '../../src/core/index.ts';
import { ControlClient, ControlServer, commands, ERROR, FLAG, type ServedFault } from '../../src/serve/index.ts';
import { pattern, type Serving, serving, temporaryFolder, untilClosed } from './harness.ts';

interface Controlled extends Serving {
  readonly control: ControlClient;
  readonly path: string;
  readonly folder: string;
  stopped(): boolean;
}

async function controlled(): Promise<Controlled> {
  const world = await serving();
  const folder = temporaryFolder();
  const path = join(folder, 'ctl.sock');
  let isStopped = false;
  const server = await ControlServer.start(path, {
    disk: world.disk,
    serverStatistics: () => ({ ...world.server.statistics }),
    stop: () => {
      isStopped = true;
    },
  });
  const control = await ControlClient.connect(path);
  onTestFinished(async () => {
    control.close();
    await server.close();
  });
  return { ...world, control, path, folder, stopped: () => isStopped };
}

describe('the control socket', () => {
  test('is for its owner only', async () => {
    const { path } = await controlled();
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('cuts, resolves and brings back, and tells how it stands', async () => {
    const { control, connect: client } = await controlled();
    const first = await client();
    await first.write(0, pattern(4096, 1));
    expect(await control.send('cut')).toEqual({ power: 'off', scheduledCut: null });
    await expect(control.send('cut')).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(control.send('on')).rejects.toMatchObject({
      code: 'EINVAL',
      message: expect.stringContaining('resolve'),
    });
    const report = await control.send('resolve', { outcome: { seed: 4 } });
    expect(report).toMatchObject({ undecidedSectors: 8, tornSectors: 0, damagedPhysicalSectors: 0 });
    expect(report['token']).toMatch(/^pcd1\./);
    await expect(control.send('resolve', { outcome: 'all-lost' })).rejects.toMatchObject({ code: 'EINVAL' });
    expect(await control.send('on')).toEqual({ power: 'on', scheduledCut: null });
    await expect(control.send('on')).rejects.toMatchObject({ code: 'EINVAL' });
    const again = await client();
    await again.write(0, pattern(512, 3));
    await control.send('cut');
    expect(await control.send('on', { outcome: 'all-lost' })).toMatchObject({ power: 'on', lostSectors: 1 });
    expect(await control.send('status')).toMatchObject({
      power: 'on',
      profile: 'nvme-512',
      sectorCount: 4096,
      operations: { writes: 2, cuts: 2 },
      server: { requests: 2, connectionsTotal: 2 },
      trace: null,
    });
  });

  test('the token of one resolution decides another cut of the same writes', async () => {
    const images: Uint8Array[] = [];
    let token: unknown;
    for (let round = 0; round < 2; round++) {
      const { control, connect: client } = await controlled();
      await (await client()).write(0, pattern(65_536, 1));
      await control.send('cut');
      const outcome = token === undefined ? { seed: 9 } : { token };
      ({ token } = await control.send('on', { outcome }));
      images.push(await (await client()).read(0, 65_536));
    }
    expect(equalBytes(images[0] as Uint8Array, images[1] as Uint8Array)).toBe(true);
    expect(equalBytes(images[0] as Uint8Array, pattern(65_536, 1))).toBe(false);
  });

  test('a scheduled cut is told of, waited for, and can be called off', async () => {
    const { control, connect: client } = await controlled();
    const schedule = { nth: 3, of: 'write', firstSector: 8, lastSector: 15 };
    expect(await control.send('cut', schedule)).toEqual({
      power: 'on',
      scheduledCut: { ...schedule, when: 'during', remaining: 3 },
    });
    const nbd = await client();
    await nbd.write(8 * 512, pattern(512, 1));
    expect(await control.send('status')).toMatchObject({ scheduledCut: { remaining: 2 } });
    expect(await control.send('cancel-cut')).toEqual({ power: 'on', scheduledCut: null });
    await control.send('cut', { nth: 2, of: 'flush' });
    const wait = control.send('wait');
    await nbd.flush();
    await expect(nbd.flush()).rejects.toMatchObject({ value: ERROR.shutdown });
    expect(await wait).toEqual({ power: 'off', scheduledCut: null });
    expect(await control.send('wait')).toMatchObject({ power: 'off' });
    const on = control.send('wait', { power: 'on' });
    await control.send('on', { outcome: 'all-kept' });
    expect(await on).toMatchObject({ power: 'on' });
    await expect(control.send('wait', { timeoutMs: 5 })).rejects.toMatchObject({ code: 'EDEADLINE' });
  });

  test('one that waits and goes away leaves nothing behind', async () => {
    const { path, disk } = await controlled();
    let listeners = 0;
    const onPower = disk.onPower.bind(disk);
    disk.onPower = (listener) => {
      const end = onPower(listener);
      listeners++;
      return () => {
        listeners--;
        return end();
      };
    };
    const waiting = await ControlClient.connect(path);
    const wait = waiting.send('wait');
    while (listeners === 0) await new Promise((resolve) => setImmediate(resolve));
    waiting.close();
    await expect(wait).rejects.toMatchObject({ code: 'EIO' });
    while (listeners > 0) await new Promise((resolve) => setImmediate(resolve));
    disk.cut();
  });

  test('latency is set and cleared', async () => {
    const { control, disk } = await controlled();
    await control.send('latency', { read: 1.5, flush: 20 });
    expect(disk.latency.all).toEqual({ read: 1.5, write: 0, flush: 20, discard: 0, writeZeroes: 0 });
    await expect(control.send('latency', { read: -1 })).rejects.toMatchObject({ code: 'EINVAL' });
    expect(disk.latency.of('read')).toBe(1.5);
    await control.send('latency');
    expect(disk.latency.of('read')).toBe(0);
  });

  test('an image is saved as it is read, or as the cut left it, and never over a file', async () => {
    const { control, connect: client, folder, disk } = await controlled();
    const nbd = await client();
    await nbd.write(512, pattern(4096, 1));
    await nbd.flush();
    await nbd.write(1024, pattern(512, 7));
    const path = join(folder, 'now.img');
    expect(await control.send('save', { path })).toEqual({ path, sizeBytes: 4096 * 512 });
    expect(equalBytes(readFileSync(path), await nbd.read(0, 4096 * 512))).toBe(true);
    await expect(control.send('save', { path })).rejects.toMatchObject({ code: 'EINVAL' });
    disk.cut();
    const undecided = join(folder, 'undecided.img');
    await expect(control.send('save', { path: undecided })).rejects.toMatchObject({ code: 'EINVAL' });
    expect(existsSync(undecided)).toBe(false);
    await control.send('resolve', { outcome: 'all-lost' });
    const after = join(folder, 'after.img');
    await control.send('save', { path: after });
    expect(equalBytes(readFileSync(after).subarray(512, 512 + 4096), pattern(4096, 1))).toBe(true);
  });

  test('stop is answered first', async () => {
    const { control, stopped } = await controlled();
    expect(await control.send('stop')).toEqual({});
    expect(stopped()).toBe(true);
  });

  test.each(Object.keys(commands))(
    '%s refuses a field that it does not have, and wrong types of those it has',
    async (name) => {
      const { control } = await controlled();
      await expect(control.send(name, { nonsense: 1 })).rejects.toMatchObject({
        code: 'EINVAL',
        message: expect.stringContaining('nonsense'),
      });
      for (const field of commands[name]?.fields ?? [])
        await expect(control.send(name, { [field]: { no: 'such' } }), field).rejects.toMatchObject({ code: 'EINVAL' });
    },
  );

  test('what is no command gets an error with its id, and the next one is carried out', async () => {
    const { path } = await controlled();
    const socket = connect({ path });
    const lines = [
      'not json',
      '[1]',
      '"cut"',
      '{}',
      '{"id":7,"command":"fly"}',
      '{"id":[1],"command":"constructor"}',
      '',
      '{"id":8,"command":"status"}',
    ];
    const answers = untilClosed(socket);
    socket.end(`${lines.join('\n')}\n`);
    const parsed = (await answers)
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(parsed.map(({ ok }) => ok)).toEqual([false, false, false, false, false, false, true]);
    expect(parsed.map(({ id }) => id)).toEqual([undefined, undefined, undefined, undefined, 7, [1], 8]);
    for (const { error } of parsed.slice(0, 6)) expect(error).toMatchObject({ code: 'EINVAL' });
  });

  test('a line without an end costs bounded memory', async () => {
    const { path } = await controlled();
    const socket = connect({ path });
    socket.on('error', () => undefined);
    const answers = untilClosed(socket);
    for (let i = 0; i < 40; i++) socket.write(Buffer.alloc(65_536, 'x'));
    expect((await answers).toString()).toContain('E2BIG');
  });

  test('a server that goes away fails the commands that wait', async () => {
    const folder = temporaryFolder();
    const { disk } = await serving();
    const path = join(folder, 'ctl.sock');
    const server = await ControlServer.start(path, { disk, serverStatistics: () => ({}), stop: () => undefined });
    const control = await ControlClient.connect(path);
    const wait = control.send('wait');
    const closing = new Promise((resolve) => systemTimers.soon(() => resolve(server.close())));
    await expect(wait).rejects.toMatchObject({ code: 'EIO' });
    await closing;
    writeFileSync(path, '');
    await expect(ControlClient.connect(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('faults of the medium', () => {
  async function faulty(fault: ServedFault): Promise<Controlled> {
    const world = await controlled();
    const nbd = await world.connect();
    await nbd.write(0, pattern(8192, 1));
    await nbd.flush();
    await world.control.send('fault', { ...fault });
    return world;
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

  test('flush-error: nothing becomes durable', async () => {
    const { connect: client, disk } = await faulty({ kind: 'flush-error', times: 1 });
    const nbd = await client();
    await nbd.write(0, pattern(512, 2));
    await expect(nbd.flush()).rejects.toEqual(eio);
    disk.cut();
    expect(disk.resolve('all-lost').lostSectors).toBe(1);
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
    [{ kind: 'read-error', times: 0 }, /times/],
  ])('%j is refused', async (fault, message) => {
    const { control, disk } = await controlled();
    await expect(control.send('fault', fault)).rejects.toThrow(message);
    expect(disk.faults.none).toBe(true);
  });
});
