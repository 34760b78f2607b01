import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Sfc32, systemClock, systemTimers } from '../../src/core/index.ts';
import {
  Authority,
  checkPolicy,
  decodeResponse,
  encodeRequest,
  FrameReader,
  type ServiceOptions,
  StateFsClient,
  StateFsService,
  UnixServer,
  unixSocket,
} from '../../src/statefsd/index.ts';
import { codeOfRejection, formattedDevice, openStore, POLICY, payloadOf } from './helpers.ts';

const KEY = '/state/apps/a/x';
let folder = '';
let sockets = '';
const open: { close(): unknown }[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pc-'));
  sockets = join(folder, 's');
});

afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
  rmSync(folder, { recursive: true });
});

function serviceOf(options: Partial<ServiceOptions> = {}): StateFsService {
  const store = openStore(formattedDevice(8192), systemClock);
  return new StateFsService({ store, authority: new Authority(POLICY), ...options });
}

async function serve(service = serviceOf(), directory = sockets): Promise<UnixServer> {
  const server = await UnixServer.listen(service, directory);
  open.push(server);
  return server;
}

function clientOf(server: UnixServer, subject: string, options: object = {}): StateFsClient {
  const client = new StateFsClient({ connect: unixSocket(server.pathOf(subject)), ...options });
  open.push(client);
  return client;
}

async function rawSocket(path: string): Promise<Socket> {
  const socket = createConnection({ path });
  open.push({ close: () => socket.destroy() });
  await new Promise((resolve) => socket.once('connect', resolve));
  return socket;
}

function ended(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.on('error', () => {});
    socket.once('close', () => resolve());
    socket.resume();
  });
}

test('clients put and read over sockets; who they are, the socket says', async () => {
  const server = await serve();
  const [a, b] = [clientOf(server, 'app.a'), clientOf(server, 'app.b')];
  const value = payloadOf(1_000_000);
  await a.putAtomic(KEY, value);
  expect(Buffer.compare(await a.get(KEY), value)).toBe(0);
  expect((await a.read(KEY)).meta.subject).toBe('app.a');
  expect(await codeOfRejection(b.get(KEY))).toBe('EPERM');
  expect(await a.list()).toEqual([KEY]);
  expect(await codeOfRejection(b.putAtomic(KEY, value))).toBe('EPERM');
});

test('eight clients at once, each value whole', async () => {
  const server = await serve();
  const clients = Array.from({ length: 8 }, () => clientOf(server, 'root'));
  const work = clients.map(async (client, i) => {
    for (let n = 0; n < 20; n++) await client.putAtomic(`/state/${i}/${n % 3}`, payloadOf(1000 * i + n, n));
  });
  await Promise.all(work);
  for (let i = 0; i < 8; i++) expect(await clients[0]!.get(`/state/${i}/1`)).toEqual(payloadOf(1000 * i + 19, 19));
});

describe('the sockets', () => {
  test('are private, in a directory that is private, one for each subject', async () => {
    const server = await serve();
    expect(readdirSync(sockets).sort()).toEqual(['app.a.sock', 'app.b.sock', 'nobody.sock', 'root.sock']);
    expect(statSync(sockets).mode & 0o777).toBe(0o700);
    for (const subject of server.subjects) {
      const found = statSync(server.pathOf(subject));
      expect(found.isSocket()).toBe(true);
      expect(found.mode & 0o777).toBe(0o600);
    }
  });

  test('are gone when the server is closed', async () => {
    const server = await serve();
    await server.close();
    expect(readdirSync(sockets)).toEqual([]);
  });

  test('that a dead server left are replaced', async () => {
    mkdirSync(sockets, { mode: 0o700 });
    const path = join(sockets, 'root.sock');
    const dead = createServer().listen(join(sockets, 'elsewhere'));
    await new Promise((resolve) => dead.once('listening', resolve));
    // A second name, as the first goes when its server closes.
    const { linkSync } = await import('node:fs');
    linkSync(join(sockets, 'elsewhere'), path);
    await new Promise((resolve) => dead.close(resolve));
    expect(statSync(path).isSocket()).toBe(true);
    const server = await serve();
    await clientOf(server, 'root').putAtomic(KEY, payloadOf(1));
  });

  test('that another server serves are refused, and left alone', async () => {
    const first = await serve();
    await expect(UnixServer.listen(serviceOf(), sockets)).rejects.toMatchObject({ code: 'EBUSY' });
    await clientOf(first, 'root').putAtomic(KEY, payloadOf(1));
    expect(readdirSync(sockets).length).toBe(4);
  });

  test('never take the place of another kind of file', async () => {
    mkdirSync(sockets, { mode: 0o700 });
    writeFileSync(join(sockets, 'root.sock'), 'precious');
    await expect(UnixServer.listen(serviceOf(), sockets)).rejects.toMatchObject({ code: 'EINVAL' });
    rmSync(join(sockets, 'root.sock'));
    symlinkSync('/dev/null', join(sockets, 'root.sock'));
    await expect(UnixServer.listen(serviceOf(), sockets)).rejects.toMatchObject({ code: 'EINVAL' });
    // Those that were opened before the fault are closed again.
    expect(readdirSync(sockets)).toEqual(['root.sock']);
  });

  test('are not opened where others could put their own', async () => {
    mkdirSync(sockets);
    chmodSync(sockets, 0o777);
    await expect(UnixServer.listen(serviceOf(), sockets)).rejects.toMatchObject({ code: 'EPERM' });
    rmSync(sockets, { recursive: true });
    writeFileSync(sockets, '');
    await expect(UnixServer.listen(serviceOf(), sockets)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(UnixServer.listen(serviceOf(), join(folder, 'no/such'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('with a path that is too long are refused by name', async () => {
    await expect(UnixServer.listen(serviceOf(), join(folder, 'x'.repeat(90)))).rejects.toMatchObject({ code: 'E2BIG' });
  });

  test('follow the policy: new subjects get one, those that are gone lose theirs and their connections', async () => {
    const service = serviceOf();
    const server = await serve(service);
    const client = clientOf(server, 'app.b', { timeoutMs: 200 });
    await client.list();
    service.authority.replace(checkPolicy({ ...POLICY, subjects: ['app.a', 'app.c', 'root'], rules: POLICY.rules }));
    await server.follow();
    expect(server.subjects.sort()).toEqual(['app.a', 'app.c', 'root']);
    expect(readdirSync(sockets).sort()).toEqual(['app.a.sock', 'app.c.sock', 'root.sock']);
    expect(await codeOfRejection(client.list())).toBe('EIO');
    await clientOf(server, 'app.c').putAtomic('/state/apps/c/x', payloadOf(1));
  });

  test('that somebody else put in our place are not removed', async () => {
    const server = await serve();
    const path = server.pathOf('root');
    rmSync(path);
    const other = createServer().listen(path);
    await new Promise((resolve) => other.once('listening', resolve));
    await server.close();
    expect(statSync(path).isSocket()).toBe(true);
    await new Promise((resolve) => other.close(resolve));
  });
});

describe('a peer on a socket that misbehaves', () => {
  test('is told what is wrong, and put out', async () => {
    const server = await serve();
    const socket = await rawSocket(server.pathOf('root'));
    const reader = new FrameReader(1_000_000, 1_000_000);
    socket.on('data', (bytes) => reader.push(bytes));
    socket.write(new Uint8Array(100).fill(0xff));
    await ended(socket);
    const frame = reader.next();
    if (frame?.kind !== 'frame') throw new Error('no answer came');
    expect(decodeResponse(frame.bytes)).toMatchObject({ status: 'EPROTO', nonce: 0 });
  });

  test('goes away in the middle of a frame, and the others do not notice', async () => {
    const server = await serve();
    const client = clientOf(server, 'root');
    await client.list();
    const socket = await rawSocket(server.pathOf('root'));
    socket.write(encodeRequest('get', 1, { path: KEY }).subarray(0, 10));
    await new Promise((resolve) => setTimeout(resolve, 20));
    socket.destroy();
    await client.putAtomic(KEY, payloadOf(1));
  });

  test('that reads no answers is put out after the time for it, and its memory with it', async () => {
    const limits = { writeTimeoutMs: 300, unsentBytes: 1024 };
    const service = serviceOf({ limits });
    const server = await serve(service);
    const client = clientOf(server, 'root');
    await client.putAtomic(KEY, payloadOf(500_000));
    const socket = await rawSocket(server.pathOf('root'));
    socket.pause();
    for (let i = 1; i <= 20; i++) socket.write(encodeRequest('get', i, { path: KEY }));
    const deaf = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    socket.on('error', () => {});
    // Meanwhile others are served.
    await client.putAtomic('/state/other', payloadOf(10));
    while (service.connectionCount > 1) await new Promise((resolve) => setTimeout(resolve, 20));
    socket.resume();
    await deaf;
    expect(await client.get('/state/other')).toEqual(payloadOf(10));
  });

  test('and a thousand like it leave no handle behind', async () => {
    const server = await serve();
    const client = clientOf(server, 'root');
    await client.list();
    const handles = () => process.getActiveResourcesInfo().filter((name) => name === 'PipeWrap').length;
    const before = handles();
    const prng = new Sfc32(1);
    for (let i = 0; i < 1000; i += 10) {
      const sockets = await Promise.all(Array.from({ length: 10 }, () => rawSocket(server.pathOf('root'))));
      await Promise.all(
        sockets.map((socket, at) => {
          const noise = new Uint8Array(64);
          prng.fill(noise);
          // Half of them say a length that no frame has; the others break off in the middle of one.
          if (at % 2 === 0) noise.fill(0xff, 0, 4);
          else noise.set(encodeRequest('get', 1, { path: KEY }).subarray(0, 20));
          const over = ended(socket);
          socket.write(at % 2 === 0 ? noise : noise.subarray(0, 20));
          if (at % 2 === 1) socket.end();
          return over;
        }),
      );
    }
    while (handles() > before) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(handles()).toBe(before);
    await client.putAtomic(KEY, payloadOf(1));
  });

  test('over the cap is told so, and comes in once there is room', async () => {
    const server = await serve(serviceOf({ limits: { connectionsPerSubject: 1 } }));
    const first = clientOf(server, 'root');
    await first.list();
    const second = clientOf(server, 'root');
    const list = second.list();
    await new Promise((resolve) => setTimeout(resolve, 50));
    first.close();
    expect(await list).toEqual([]);
  });
});

test('close answers what has arrived and resolves when every connection is closed', async () => {
  const service = serviceOf();
  const server = await serve(service);
  const client = clientOf(server, 'root', { timeoutMs: 300 });
  await client.list();
  const puts = Array.from({ length: 5 }, (_, i) => client.putAtomic(`/state/${i}`, payloadOf(i)));
  // Long enough for the requests to be in the server's hands, as they are one write.
  await new Promise((resolve) => setTimeout(resolve, 30));
  await server.close();
  await Promise.all(puts);
  expect(service.store.list()).toEqual(['/state/0', '/state/1', '/state/2', '/state/3', '/state/4']);
  expect(service.connectionCount).toBe(0);
  expect(systemTimers).toBe(service.timers);
});
