import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { systemTimers } from '../../src/core/index.ts';
import { type DiskProfile, profiles } from '../../src/faults/index.ts';
import {
  type Host,
  openHost,
  ServedDisk,
  VhostUserMachine,
  type VhostUserMachineOptions,
  VhostUserServer,
  type VhostUserServerOptions,
} from '../../src/serve/index.ts';
import {
  F_EVENT_IDX,
  F_INDIRECT_DESC,
  F_RING_PACKED,
  type Ticket,
  VirtioBlkDriver,
  type VirtioBlkDriverOptions,
} from '../../src/virtio/index.ts';
import { temporaryFolder } from './harness.ts';

/** Why there is nothing to test here; undefined where there is. */
export const noVhost: string | undefined = await openHost().then(
  (host) => {
    host.dispose();
    return undefined;
  },
  (error: Error) => error.message.replaceAll(/[()]/g, ''),
);

/** One turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => systemTimers.soon(resolve));
}

/** Lets things happen until they have; the test's time-out ends what never does. */
export async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await turn();
}

/** Gives turns until a promise settles. */
export async function turning<T>(aTurn: () => Promise<void>, promise: Promise<T>): Promise<T> {
  let isSettled = false;
  const settled = promise.finally(() => {
    isSettled = true;
  });
  // Whoever awaits it below learns of it.
  settled.catch(() => undefined);
  while (!isSettled) await aTurn();
  return await settled;
}

/** A host of the test's own, gone when the test ends. */
export async function testHost(): Promise<Host> {
  const host = await openHost();
  onTestFinished(() => host.dispose());
  return host;
}

export interface VhostServing {
  readonly disk: ServedDisk;
  readonly path: string;
  readonly events: string[];
  server: VhostUserServer;
  /** Another server in the place of the one that is gone, for the same disk. */
  restart(): Promise<void>;
  connect(options?: ConnectOptions): Promise<Guest>;
}

export interface ServingOptions extends Partial<VhostUserServerOptions> {
  readonly sectorCount?: number;
  /** Default `nvme-512`; null for a disk without a volatile cache. */
  readonly profile?: DiskProfile | null;
}

export async function serveVhost(options: ServingOptions = {}): Promise<VhostServing> {
  const { sectorCount = 2048, profile = profiles['nvme-512'], ...rest } = options;
  const sectorBytes = profile?.sectorBytes ?? 512;
  const disk = new ServedDisk(new MemoryDevice({ sectorCount, sectorBytes }), profile === null ? {} : { profile });
  const path = join(temporaryFolder(), 'vhost.sock');
  const events: string[] = [];
  const start = (): Promise<VhostUserServer> =>
    VhostUserServer.start({ disk, path, onEvent: (event) => events.push(event), ...rest });
  const serving: VhostServing = {
    disk,
    path,
    events,
    server: await start(),
    restart: async () => {
      serving.server = await start();
    },
    connect: (connectOptions = {}) => Guest.connect(path, connectOptions),
  };
  onTestFinished(() => {
    serving.server.close();
    disk.close();
  });
  return serving;
}

/** The ring's variants that a driver may choose. */
export interface RingChoice {
  readonly packed?: boolean;
  readonly indirect?: boolean;
  readonly eventIdx?: boolean;
}

export interface ConnectOptions extends RingChoice {
  readonly machine?: Partial<VhostUserMachineOptions>;
  readonly driver?: VirtioBlkDriverOptions;
  readonly queueCount?: number;
  /** Lets the back end have its turn. Default: a turn of the event loop. */
  readonly turn?: () => Promise<void>;
}

/** Our own block driver in a machine of its own, driven by tickets, so that the back end in this process gets its turns. */
export class Guest {
  readonly machine: VhostUserMachine;
  readonly driver: VirtioBlkDriver;
  readonly #turn: () => Promise<void>;

  private constructor(machine: VhostUserMachine, driver: VirtioBlkDriver, aTurn: () => Promise<void>) {
    this.machine = machine;
    this.driver = driver;
    this.#turn = aTurn;
  }

  static async connect(path: string, options: ConnectOptions): Promise<Guest> {
    const { packed = false, indirect = false, eventIdx = false, queueCount = 1 } = options;
    const aTurn = options.turn ?? turn;
    const host = options.machine?.host ?? (await testHost());
    const machine = await turning(aTurn, VhostUserMachine.connect({ path, queueCount, ...options.machine, host }));
    onTestFinished(() => machine.dispose());
    const decline = [
      ...(packed ? [] : [F_RING_PACKED]),
      ...(indirect ? [] : [F_INDIRECT_DESC]),
      ...(eventIdx ? [] : [F_EVENT_IDX]),
    ];
    const driver = new VirtioBlkDriver(machine, machine.memory, {
      decline,
      queueCountMax: queueCount,
      ...options.driver,
    });
    const guest = new Guest(machine, driver, aTurn);
    await guest.settled();
    return guest;
  }

  /** All that the machine has to say was said. */
  settled(): Promise<void> {
    return turning(this.#turn, this.machine.settled);
  }

  reconnect(): Promise<void> {
    return turning(this.#turn, this.machine.reconnect());
  }

  /** Waits for one ticket, and ends it. */
  async finish(ticket: Ticket, target?: Uint8Array): Promise<void> {
    await this.finishAll([ticket]);
    this.driver.finish(ticket, target);
  }

  /** Waits for these, in whatever order they come. @returns the order */
  async finishAll(tickets: readonly Ticket[]): Promise<Ticket[]> {
    const done: Ticket[] = [];
    while (!tickets.every((ticket) => done.includes(ticket))) {
      const ticket = this.driver.poll();
      if (ticket === undefined) await this.#turn();
      else done.push(ticket);
    }
    return done;
  }

  async write(sector: number, source: Uint8Array): Promise<void> {
    await this.finish(this.driver.submitWrite(sector, source));
  }

  async read(sector: number, sectorCount: number): Promise<Uint8Array> {
    const target = new Uint8Array(sectorCount * this.driver.sectorBytes);
    await this.finish(this.driver.submitRead(sector, sectorCount), target);
    return target;
  }

  async flush(): Promise<void> {
    await this.finish(this.driver.submitFlush());
  }
}
