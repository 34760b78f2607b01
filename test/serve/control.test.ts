import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { describe, expect, test } from 'vitest';
import { equalBytes, systemTimers } from '../../src/core/index.ts';
import { ControlClient, ControlServer, commands, ERROR } from '../../src/serve/index.ts';
import { controlled, pattern, serving, temporaryFolder, untilClosed } from './harness.ts';

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

  test('who does not read is not read either, holds up nobody else, and not the end', async () => {
    const { path, control } = await controlled();
    const deaf = connect({ path });
    deaf.on('error', () => undefined);
    const commands = Buffer.from('{"command":"status"}\n'.repeat(50_000));
    for (let i = 0; i < 8; i++) deaf.write(commands);
    let unsent = -1;
    while (deaf.writableLength !== unsent) {
      unsent = deaf.writableLength;
      await new Promise<void>((resolve) => systemTimers.after(300, resolve));
    }
    expect(unsent).toBeGreaterThan(4 * commands.length);
    expect(await control.send('status')).toMatchObject({ power: 'on' });
    // The end of the test waits for the server.
  });

  test('who is one too many is told so, and does not keep the server from ending', async () => {
    const { path } = await controlled();
    const sockets = Array.from({ length: 15 }, () => connect({ path }));
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
    const turnedAway = connect({ path, allowHalfOpen: true });
    const told = await new Promise<Buffer>((resolve) => turnedAway.once('data', resolve));
    expect(told.toString()).toContain('EBUSY');
    // It stays half open; the end of the test waits for the server.
  });

  test('many may wait on one connection, without a warning', async () => {
    const { control } = await controlled();
    const warnings: unknown[] = [];
    const onWarning = (warning: unknown): void => void warnings.push(warning);
    process.on('warning', onWarning);
    const waits = Array.from({ length: 40 }, () => control.send('wait'));
    await control.send('cut');
    expect(await Promise.all(waits)).toHaveLength(40);
    await new Promise<void>((resolve) => systemTimers.soon(resolve));
    process.off('warning', onWarning);
    expect(warnings).toEqual([]);
  });

  test.each([
    ['no JSON', 'garbage\n'],
    ['no object', 'null\n'],
    ['an answer to nothing', '{"id":99,"ok":true}\n'],
    ['neither yes nor no', '{"id":1,"ok":"no"}\n'],
    ['an error without a text', '{"id":1,"ok":false,"error":{"code":7}}\n'],
    ['a result that is none', '{"id":1,"ok":true,"result":[]}\n'],
  ])('the client takes no lie: %s', async (_what, text) => {
    const path = join(temporaryFolder(), 'liar.sock');
    const liar = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', () => socket.end(text));
    });
    await new Promise<void>((resolve) => liar.listen(path, resolve));
    const control = await ControlClient.connect(path);
    await expect(control.send('status')).rejects.toMatchObject({ code: 'EPROTO' });
    control.close();
    await new Promise((resolve) => liar.close(resolve));
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
