import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runCommandLine } from '../../src/cli/program.ts';
import { equalBytes, VirtualClock } from '../../src/core/index.ts';
import { NbdClient } from '../../src/serve/index.ts';
import { pattern, temporaryFolder } from '../serve/harness.ts';
import { type Outcome, run } from './helpers.ts';

interface Served {
  readonly socket: string;
  readonly control: string;
  readonly ready: string;
  ctl(...args: string[]): Promise<Outcome>;
  ended: Promise<number>;
}

/** Starts `powercut serve nbd` in this process; "ctl stop" ends it. */
async function serve(...args: string[]): Promise<Served> {
  const folder = temporaryFolder();
  const [socket, control] = [join(folder, 'nbd.sock'), join(folder, 'ctl.sock')];
  let tell: (line: string) => void = () => undefined;
  const ready = new Promise<string>((resolve) => {
    tell = resolve;
  });
  const ended = runCommandLine(['serve', 'nbd', '--socket', socket, '--control', control, ...args], '0', {
    out: (text) => tell(text),
    err: (text) => tell(text),
    isTerminal: false,
    useColour: false,
    clock: new VirtualClock(),
  });
  return { socket, control, ready: await ready, ended, ctl: (...words) => run('ctl', '--control', control, ...words) };
}

describe('powercut serve nbd', () => {
  test('says when it is ready, serves, and stops in order', async () => {
    const served = await serve('--size', '1M', '--export-name', 'disk');
    expect(served.ready).toBe(
      `ready nbd+unix:///disk?socket=${served.socket}: 1,048,576 bytes, disk nvme-512, control ${served.control}\n`,
    );
    const client = await NbdClient.connect({ path: served.socket }, { exportName: 'disk' });
    await client.write(0, pattern(4096, 1));
    expect(await served.ctl('stop')).toEqual({ code: 0, out: 'done\n', err: '' });
    expect(await served.ended).toBe(0);
    expect([existsSync(served.socket), existsSync(served.control)]).toEqual([false, false]);
    await expect(client.read(0, 512)).rejects.toThrow();
  });

  test('--json: the line as an object; TCP at a port of its own on the loopback interface', async () => {
    const folder = temporaryFolder();
    const control = join(folder, 'ctl.sock');
    let line = '';
    const ended = runCommandLine(
      ['serve', 'nbd', '--size', '64K', '--port', '0', '--control', control, '--json', '--profile', 'none'],
      '0',
      {
        out: (text) => {
          line += text;
        },
        err: () => undefined,
        isTerminal: false,
        useColour: false,
        clock: new VirtualClock(),
      },
    );
    while (line === '') await new Promise((resolve) => setImmediate(resolve));
    const ready = JSON.parse(line) as { port: number; host: string };
    expect(ready).toEqual({
      ready: true,
      uri: `nbd://127.0.0.1:${ready.port}/`,
      host: '127.0.0.1',
      port: ready.port,
      sizeBytes: 65_536,
      profile: 'none',
      control,
    });
    const client = await NbdClient.connect({ host: ready.host, port: ready.port });
    await client.disconnect();
    await run('ctl', '--control', control, 'stop');
    expect(await ended).toBe(0);
  });

  test('an image is made, and holds what is durable: flushed, or written out when it is stopped', async () => {
    const image = join(temporaryFolder(), 'disk.img');
    const first = await serve('--image', image, '--size', '256K');
    const client = await NbdClient.connect({ path: first.socket });
    await client.write(0, pattern(512, 1));
    await client.flush();
    await client.write(512, pattern(512, 2));
    expect(
      readFileSync(image)
        .subarray(512, 1024)
        .every((byte) => byte === 0),
    ).toBe(true);
    await first.ctl('stop');
    await first.ended;
    expect(equalBytes(readFileSync(image).subarray(0, 512), pattern(512, 1))).toBe(true);
    expect(equalBytes(readFileSync(image).subarray(512, 1024), pattern(512, 2))).toBe(true);
    const second = await serve('--image', image, '--profile', '4kn');
    const again = await NbdClient.connect({ path: second.socket });
    await again.write(4096, pattern(4096, 3));
    await second.ctl('cut');
    await second.ctl('resolve', '--lost');
    await second.ctl('stop');
    expect(await second.ended).toBe(0);
    expect(
      readFileSync(image)
        .subarray(4096, 8192)
        .every((byte) => byte === 0),
    ).toBe(true);
    expect(statSync(image).size).toBe(262_144);
  });

  test.each([
    [['--socket', 's'], /--size or --image/],
    [['--size', '1000'], /whole sectors/],
    [['--size', '64K', '--socket', 's', '--port', '1'], /does not go with/],
    [['--size', '64K', '--cache', '4K'], /at least 1M/],
    [['--image', '/nowhere/disk.img'], /--image/],
    [['--size', '64K', '--profile', 'other'], /--profile/],
    [['--size', '64K', '--socket', '/nowhere/x.sock'], /can't listen/],
    [['--size', '64K', '--socket', '/dev/null'], /no socket/],
  ])('%j is misuse: one line, and 2', async (args, message) => {
    const { code, out, err } = await run('serve', 'nbd', ...args);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(message);
    expect(err.trim().split('\n').length).toBe(1);
  });
});

describe('powercut ctl', () => {
  test('takes a cut through all its steps', async () => {
    const { ctl, socket, ended } = await serve('--size', '1M');
    expect((await ctl('cut', '--nth', '2', '--of', 'write')).out).toMatch(/scheduledCut\.nth +2\n/);
    const client = await NbdClient.connect({ path: socket });
    await client.write(0, pattern(4096, 1));
    const wait = ctl('wait', '--timeout', '1h');
    await expect(client.write(4096, pattern(4096, 2))).rejects.toThrow();
    expect((await wait).out).toMatch(/^power +off\n/);
    expect(await ctl('on')).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/^powercut: on: .*resolve/) });
    const report = await ctl('--json', 'resolve', '--seed', '3');
    const { token, undecidedSectors } = JSON.parse(report.out) as { token: string; undecidedSectors: number };
    expect([undecidedSectors, token.startsWith('pcd1.')]).toEqual([16, true]);
    expect((await ctl('on')).out).toMatch(/^power +on\n/);
    await ctl('latency', '--read', '1ms');
    await ctl('fault', 'read-error', '--times', '1');
    const status = JSON.parse((await ctl('--json', 'status')).out) as Record<string, unknown>;
    expect(status).toMatchObject({ latencyMs: { read: 1 }, faults: [{ kind: 'read-error', times: 1 }] });
    expect((await ctl('clear-faults')).out).toMatch(/cleared +1\n/);
    const folder = temporaryFolder();
    await ctl('trace-start', join(folder, 'a.trace'));
    expect((await ctl('mark', 'begin', 'put 1')).code).toBe(0);
    expect((await ctl('trace-stop')).out).toMatch(/lines +\d+\n/);
    expect(readFileSync(join(folder, 'a.trace'), 'utf8')).toContain('put 1');
    expect((await ctl('save', join(folder, 'a.img'))).out).toMatch(/sizeBytes +1048576\n/);
    await ctl('stop');
    await ended;
  });

  test.each([
    [['status'], /--control/],
    [['--control', '/nowhere', 'status'], /no server/],
    [['--control', 'x', 'resolve'], /expected one of --lost/],
    [['--control', 'x', 'resolve', '--lost', '--kept'], /expected one of --lost/],
    [['--control', 'x', 'cut', '--of', 'breakfast'], /--of/],
    [['--control', 'x', 'cut', '--nth', '0'], /--nth/],
    [['--control', 'x', 'explode'], /explode/],
  ])('%j is misuse: one line, and 2', async (args, message) => {
    const { code, out, err } = await run('ctl', ...args);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(message);
    expect(err.trim().split('\n').length).toBe(1);
  });

  test('every command has a help of its own, with an example where it starts', async () => {
    expect((await run('ctl', '--help')).out).toContain('powercut ctl --control ctl.sock cut');
    expect((await run('serve', 'nbd', '--help')).out).toContain('powercut serve nbd --size 64M');
    expect((await run('ctl', 'resolve', '--help')).out).toContain('--token');
  });
});
