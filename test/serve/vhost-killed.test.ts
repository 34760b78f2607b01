import { describe, expect, onTestFinished, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { systemTimers, VirtualClock, VirtualTimers } from '../../src/core/index.ts';
import { MemoryHost, ServedDisk, VhostUserServer } from '../../src/serve/index.ts';
import { pattern } from './harness.ts';
import { type ConnectOptions, Guest, type RingChoice } from './vhost-harness.ts';

/** Thrown in the place of a store: the process was killed before it. */
class Killed extends Error {}

/** Kills whoever stores into memory that a machine shares, at the nth store. */
class Killer {
  /** Stores that may still be done; the next one kills. */
  left = Number.POSITIVE_INFINITY;
  /** Only the back end is killed. */
  isArmed = false;
  readonly #restores: (() => void)[] = [];

  constructor(host: MemoryHost) {
    const meet = (buffer: ArrayBufferLike): void => {
      if (!this.isArmed || !host.isContent(buffer)) return;
      if (--this.left < 0) throw new Killed();
    };
    const replace = <T extends object, K extends keyof T>(owner: T, name: K, make: (former: T[K]) => T[K]): void => {
      const former = owner[name];
      owner[name] = make(former);
      this.#restores.push(() => {
        owner[name] = former;
      });
    };
    for (const name of ['setUint8', 'setUint16', 'setUint32'] as const) {
      replace(
        DataView.prototype,
        name,
        (former) =>
          function (this: DataView, at: number, value: number, isLittle?: boolean) {
            meet(this.buffer);
            former.call(this, at, value, isLittle);
          },
      );
    }
    replace(
      Uint8Array.prototype,
      'set',
      (former) =>
        function (this: Uint8Array, source: ArrayLike<number>, at?: number) {
          meet(this.buffer);
          former.call(this, source, at);
        },
    );
    const atomics = Atomics as { store(array: Uint16Array, index: number, value: number): number };
    replace(atomics, 'store', (former) => (array, index, value) => {
      meet(array.buffer);
      return former(array, index, value);
    });
  }

  /** Everything stores as it did. */
  end(): void {
    for (const restore of this.#restores.splice(0)) restore();
  }
}

class World {
  readonly host = new MemoryHost();
  readonly disk = new ServedDisk(new MemoryDevice({ sectorCount: 512 }));
  readonly clock = new VirtualClock();
  readonly timers = new VirtualTimers(this.clock);
  readonly killer = new Killer(this.host);
  server!: VhostUserServer;
  guest!: Guest;

  static async start(options: ConnectOptions): Promise<World> {
    const world = new World();
    onTestFinished(() => world.end());
    await world.startServer();
    world.guest = await Guest.connect('disk.sock', {
      ...options,
      turn: () => world.turn(),
      machine: { regions: [{ guestAddress: 0, sizeBytes: 1 << 18 }], ...options.machine, host: world.host },
      driver: { slotBytes: 4096 },
    });
    return world;
  }

  async startServer(): Promise<void> {
    const { disk, host, clock, timers } = this;
    this.server = await VhostUserServer.start({ disk, path: 'disk.sock', host, clock, timers });
  }

  /** The process of the back end goes, as it stands, and another takes its place. */
  async replaceServer(): Promise<void> {
    this.killer.left = 0;
    this.killer.isArmed = true;
    // What the operating system does for a process that was killed; it stores nothing.
    this.server.close();
    this.killer.isArmed = false;
    this.killer.left = Number.POSITIVE_INFINITY;
    await this.startServer();
    await this.guest.reconnect();
  }

  end(): void {
    this.killer.end();
    this.server.close();
  }

  async turn(): Promise<void> {
    this.killer.isArmed = true;
    try {
      this.host.run();
      this.timers.runDue();
    } finally {
      this.killer.isArmed = false;
    }
    await new Promise<void>((resolve) => systemTimers.soon(resolve));
  }

  /** Waits for tickets while the back end is killed, and started again. @returns whether it was killed */
  async finishThroughKill(tickets: readonly number[]): Promise<boolean> {
    const { driver } = this.guest;
    const waiting = new Set(tickets);
    let wasKilled = false;
    for (let turns = 0; waiting.size > 0; turns++) {
      if (turns > 200) throw new Error(`lost: ${waiting.size} requests of ${tickets.length} never came back`);
      for (let ticket = driver.poll(); ticket !== undefined; ticket = driver.poll()) waiting.delete(ticket);
      try {
        await this.turn();
      } catch (error) {
        if (!(error instanceof Killed)) throw error;
        wasKilled = true;
        await this.replaceServer();
      }
    }
    return wasKilled;
  }
}

/** Requests of all kinds in one batch, killed at the nth store. @returns whether there was an nth store */
async function killAt(nth: number, options: KillOptions, afterKill?: (world: World) => void): Promise<boolean> {
  const world = await World.start(options);
  try {
    return await killIn(world, nth, options, afterKill);
  } finally {
    world.end();
  }
}

async function killIn(
  world: World,
  nth: number,
  options: KillOptions,
  afterKill: ((world: World) => void) | undefined,
): Promise<boolean> {
  const { guest, disk } = world;
  // So that the indices are not those of a new ring.
  for (let i = 0; i < options.before; i++) await guest.write(400, pattern(512, 2));
  if (afterKill !== undefined) {
    const replace = world.replaceServer.bind(world);
    world.replaceServer = async () => {
      afterKill(world);
      await replace();
    };
  }
  world.killer.left = nth;
  const { driver } = guest;
  const writes = [0, 1].map((i) => driver.submitWrite(i * 8, pattern(4096, 100 + i)));
  const read = driver.submitRead(400, 1);
  const flush = driver.submitFlush();
  const wasKilled = await world.finishThroughKill([...writes, read, flush]);
  world.killer.left = Number.POSITIVE_INFINITY;
  const target = new Uint8Array(512);
  for (const ticket of [...writes, flush]) driver.finish(ticket);
  driver.finish(read, target);
  expect(target).toEqual(pattern(512, 2));
  for (let i = 0; i < 2; i++) {
    const sectors = new Uint8Array(4096);
    disk.read(i * 8, sectors);
    expect(sectors).toEqual(pattern(4096, 100 + i));
  }
  // The ring goes on, around its end; the driver notices what is given back twice.
  for (let round = 0; round < 4; round++) {
    const more = [0, 1, 2, 3, 4, 5, 6].map((i) => driver.submitWrite(i, pattern(512, round + i)));
    await guest.finishAll(more);
    for (const ticket of more) driver.finish(ticket);
  }
  expect(await guest.read(6, 1)).toEqual(pattern(512, 9));
  return wasKilled;
}

interface KillOptions extends ConnectOptions {
  /** Requests before those that are killed: they move the ring on. */
  readonly before: number;
}

async function killEverywhere(options: KillOptions): Promise<number> {
  for (let nth = 0; ; nth++) if (!(await killAt(nth, options))) return nth;
}

/** A ring of this driver has 32 entries; of the packed ones without tables, a write takes three. */
const RINGS: readonly (RingChoice & { name: string; before: number })[] = [
  { name: 'split', before: 3 },
  { name: 'split, indirect, EVENT_IDX', indirect: true, eventIdx: true, before: 6 },
  { name: 'packed, around its end', packed: true, before: 9 },
  { name: 'packed, indirect, EVENT_IDX, around its end', packed: true, indirect: true, eventIdx: true, before: 6 },
];

describe('a back end that is killed', () => {
  test.each(RINGS)('$name: before any store, no request is lost, and none given back twice', async (ring) => {
    const storeCount = await killEverywhere(ring);
    // Four requests, of which each has at least a status, a used element and the steps of its tracking.
    expect(storeCount).toBeGreaterThan(30);
  });

  test('a packed ring that is not tracked loses requests', async () => {
    await expect(killEverywhere({ packed: true, machine: { inflight: false }, before: 3 })).rejects.toThrow(/lost/);
  });

  test('a request that is taken again although it was given back is noticed', async () => {
    const markAllInFlight = ({ host }: World): void => {
      for (let fd = 0; fd < 200; fd++) {
        const bytes = host.contentOf(fd);
        // The area that tracks: a version of 1, and no guest memory.
        if (bytes === undefined || bytes.length > 8192 || bytes[8] !== 1) continue;
        for (let head = 0; head < 16; head++) bytes[16 + 16 * head] = 1;
      }
    };
    for (let nth = 4; nth < 30; nth += 8) {
      await expect(killAt(nth, { before: 3 }, markAllInFlight)).rejects.toThrow(/answered with what cannot be/);
    }
  });

  test.each([
    ['split', false],
    ['packed', true],
  ])('%s: what was carried out and held back is told by its successor', async (_name, packed) => {
    const world = await World.start({ packed });
    world.disk.latency.set({ write: 50 });
    const tickets = [1, 2, 3].map((i) => world.guest.driver.submitWrite(i * 8, pattern(512, i)));
    world.guest.driver.poll();
    for (let i = 0; i < 5; i++) await world.turn();
    expect([world.guest.driver.poll(), world.disk.counts.writes]).toEqual([undefined, 3]);
    await world.replaceServer();
    for (let i = 0; i < 5; i++) await world.turn();
    // Done again: nobody had been told.
    expect([world.guest.driver.poll(), world.disk.counts.writes]).toEqual([undefined, 6]);
    expect(world.server.statistics.requestsResumed).toBe(packed ? 0 : 3);
    world.timers.advance(50);
    await world.guest.finishAll(tickets);
    for (const ticket of tickets) world.guest.driver.finish(ticket);
    world.disk.latency.set({});
    await world.guest.write(0, pattern(512, 9));
  });
});
