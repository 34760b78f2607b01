import { once } from 'node:events';
import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { Sfc32, VirtualClock, VirtualTimers } from '../../src/core/index.ts';
import { COMMAND, OPTION } from '../../src/serve/index.ts';
import { pattern, type Serving, serving, untilClosed } from './harness.ts';

const CLIENT_FLAGS = Buffer.from([0, 0, 0, 3]);

function option(type: number, data: Uint8Array = new Uint8Array(0), lengthBytes = data.length): Buffer {
  const header = Buffer.alloc(16);
  header.write('IHAVEOPT', 'latin1');
  header.writeUInt32BE(type, 8);
  header.writeUInt32BE(lengthBytes, 12);
  return Buffer.concat([header, data]);
}

function request(type: number, offset: number, length: number, flags = 0, magic = 0x2560_9513): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(magic, 0);
  header.writeUInt16BE(flags, 4);
  header.writeUInt16BE(type, 6);
  header.writeBigUInt64BE(BigInt(offset), 16);
  header.writeUInt32BE(length, 24);
  return header;
}

/** A socket on which transmission has begun. */
async function transmitting(world: Serving): Promise<Socket> {
  const socket = await world.raw();
  socket.write(Buffer.concat([CLIENT_FLAGS, option(OPTION.exportName)]));
  let came = 0;
  while (came < 28) came += ((await once(socket, 'data')) as [Buffer])[0].length;
  return socket;
}

/** Another client is served as ever. */
async function expectAlive(world: Serving): Promise<void> {
  const client = await world.connect();
  await client.write(0, pattern(4096, 1));
  expect(Buffer.compare(await client.read(0, 4096), pattern(4096, 1))).toBe(0);
  await client.disconnect();
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

describe('bytes that are no NBD', () => {
  test('of any kind, in any pieces, before and after the handshake, harm nobody', async () => {
    const world = await serving();
    const prng = new Sfc32(20_261_125);
    const bystander = await world.connect();
    await bystander.write(1024 * 512, pattern(65_536, 5));
    let bytesSent = 0;
    for (let round = 0; round < 120; round++) {
      const socket = round % 2 === 0 ? await world.raw() : await transmitting(world);
      socket.on('data', () => undefined);
      if (round % 4 === 0) socket.write(CLIENT_FLAGS);
      const garbage = new Uint8Array(1 + prng.below(3000));
      prng.fill(garbage);
      // Now and then it begins as it should.
      const good =
        round % 4 === 0
          ? option(prng.below(12), undefined, prng.below(2) === 0 ? 40 : 4_000_000_000)
          : request(prng.below(9), 0, prng.nextU32());
      const bytes = Buffer.concat([prng.below(3) === 0 ? Buffer.alloc(0) : good, garbage]);
      for (let at = 0; at < bytes.length; ) {
        const count = 1 + prng.below(700);
        socket.write(bytes.subarray(at, at + count));
        at += count;
        if (prng.below(4) === 0) await turns(1);
      }
      bytesSent += bytes.length;
      if (prng.below(2) === 0) socket.end();
      else socket.destroy();
    }
    expect(bytesSent).toBeGreaterThan(100_000);
    expect(Buffer.compare(await bystander.read(1024 * 512, 65_536), pattern(65_536, 5))).toBe(0);
    await expectAlive(world);
    expect(world.events.filter((event) => event.includes('defect'))).toEqual([]);
  });

  test('and well-formed requests with any numbers in them are answered, each once', async () => {
    const world = await serving();
    const prng = new Sfc32(7);
    const client = await world.connect();
    let failed = 0;
    const answers = Array.from({ length: 1500 }, () => {
      // Writes carry what they announce; all else may announce anything.
      const type = [0, 3, 4, 5, 6, 7, 8, 9, 0xffff][prng.below(9)] as number;
      const offset = [0, 512, prng.below(4096) * 512, prng.nextU32(), 2 ** 53 - 1][prng.below(5)] as number;
      const length = [0, 512, prng.below(64) * 512, prng.nextU32(), 0xffff_ffff][prng.below(5)] as number;
      const flags = [0, 1, 1 << prng.below(16), prng.below(65_536)][prng.below(4)] as number;
      return client.request(type, offset, length, flags).catch((error: Error) => {
        expect(error.name).toBe('NbdError');
        failed++;
      });
    });
    await Promise.all(answers);
    expect(failed).toBeGreaterThan(700);
    expect(failed).toBeLessThan(1500);
    await client.disconnect();
    expect(world.events).toEqual([]);
  });

  test('a wrong magic number ends the connection', async () => {
    const world = await serving();
    const socket = await transmitting(world);
    const closed = untilClosed(socket);
    socket.write(request(COMMAND.read, 0, 512, 0, 0x1256_0953));
    await closed;
    expect(world.events).toEqual(['a client was dropped: what came is no request']);
    expect(world.server.statistics.clientsDropped).toBe(1);
  });
});

describe('clients that announce more than they bring', () => {
  test('cost no memory: 60 of them, each with a payload of 32 MiB to come', async () => {
    const world = await serving();
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 60; i++) {
      const socket = await transmitting(world);
      socket.write(Buffer.concat([request(COMMAND.write, 0, 2 ** 25), Buffer.alloc(1000)]));
    }
    await expectAlive(world);
    // Each has gathered what is less than a sector, in a buffer of 256 KiB.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(60 * 0.6 * 1024 * 1024);
  });

  test('and one that vanishes in the midst of a write leaves at most whole sectors of it', async () => {
    const world = await serving();
    for (const length of [8192, 2 ** 20]) {
      const socket = await transmitting(world);
      socket.write(Buffer.concat([request(COMMAND.write, 0, length), Buffer.alloc(5000, 0xee)]));
      await turns(3);
      socket.destroy();
    }
    const client = await world.connect();
    const found = await client.read(0, 2 ** 20);
    const written = found.filter((byte) => byte === 0xee).length;
    expect(written % 512).toBe(0);
    expect(written).toBeLessThanOrEqual(4608);
  });
});

describe('clients that do not read', () => {
  test('cost bounded memory, and hold nobody', async () => {
    const world = await serving({ sectorCount: 65_536, profile: null });
    const writer = await world.connect();
    await writer.write(0, pattern(2 ** 24, 1));
    const before = process.memoryUsage().arrayBuffers;
    const slow: Socket[] = [];
    for (let i = 0; i < 10; i++) {
      const socket = await transmitting(world);
      socket.pause();
      socket.write(Buffer.concat(Array.from({ length: 2000 }, (_, n) => request(COMMAND.read, n * 4096, 65_536))));
      slow.push(socket);
    }
    await turns(50);
    await expectAlive(world);
    // Four buffers of 256 KiB each, and what sockets hold.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(10 * 3 * 1024 * 1024);
    // And the one that reads after all gets everything.
    const reader = slow[0] as Socket;
    let came = 0;
    reader.on('data', (chunk: Buffer) => {
      came += chunk.length;
    });
    reader.resume();
    while (came < 2000 * (65_536 + 16)) await once(reader, 'data');
    expect(came).toBe(2000 * (65_536 + 16));
  });

  test('are dropped when they make no progress for too long; idle ones are not', async () => {
    const clock = new VirtualClock();
    const timers = new VirtualTimers(clock);
    const patience = { handshakeMs: 10_000, stallMs: 20_000 };
    const world = await serving({ sectorCount: 65_536, clock, timers, patience });
    const haggling = await world.raw();
    const hagglingClosed = untilClosed(haggling);
    const idle = await world.connect();
    const stalled = await transmitting(world);
    const stalledClosed = untilClosed(stalled);
    stalled.write(request(COMMAND.write, 0, 4096));
    const unread = await transmitting(world);
    unread.pause();
    unread.write(Buffer.concat(Array.from({ length: 500 }, () => request(COMMAND.read, 0, 65_536))));
    await idle.read(0, 512);
    await turns(20);
    timers.advance(12_000);
    await hagglingClosed;
    expect(world.server.statistics.connections).toBe(3);
    timers.advance(12_000);
    await stalledClosed;
    await turns(5);
    expect(world.server.statistics.connections).toBe(1);
    timers.advance(3_600_000);
    expect((await idle.read(0, 512)).length).toBe(512);
    expect(world.server.statistics.clientsDropped).toBe(3);
  });
});

test('a long request of one client does not hold the others', async () => {
  const world = await serving({ sectorCount: 2 ** 23, profile: null });
  const [long, short] = [await world.connect(), await world.connect()];
  let isDone = false;
  const zeroed = long.request(COMMAND.writeZeroes, 0, 0xffff_fe00, 2).then(() => {
    isDone = true;
  });
  for (let i = 0; i < 20; i++) {
    await short.read(0, 4096);
    expect(isDone).toBe(false);
  }
  long.destroy();
  await expect(zeroed).rejects.toThrow();
});
