import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { type DiskProfile, profiles } from '../../src/faults/index.ts';
import {
  type Address,
  ControlClient,
  ControlServer,
  NbdClient,
  type NbdClientOptions,
  NbdServer,
  type NbdServerOptions,
  ServedDisk,
  type ServedDiskOptions,
} from '../../src/serve/index.ts';

/** A folder for sockets and images, gone when the test ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'powercut-serve-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface ServingOptions extends Partial<NbdServerOptions> {
  readonly sectorCount?: number;
  /** Default `nvme-512`; null for a disk without a volatile cache. */
  readonly profile?: DiskProfile | null;
  readonly diskOptions?: ServedDiskOptions;
}

/** A server under test. */
export interface Serving {
  readonly disk: ServedDisk;
  readonly server: NbdServer;
  readonly address: Address;
  /** What the server said of its clients. */
  readonly events: string[];
  connect(options?: NbdClientOptions): Promise<NbdClient>;
  /** A socket, with nothing said. */
  raw(): Promise<Socket>;
}

/** Serves a disk in memory at a Unix socket until the test ends. */
export async function serving(options: ServingOptions = {}): Promise<Serving> {
  const { sectorCount = 4096, profile = profiles['nvme-512'], diskOptions, ...rest } = options;
  const geometry = {
    sectorBytes: profile?.sectorBytes ?? 512,
    physicalSectorBytes: profile?.physicalSectorBytes ?? 512,
  };
  const medium = new MemoryDevice({ sectorCount, ...geometry });
  const disk = options.disk ?? new ServedDisk(medium, { ...(profile === null ? {} : { profile }), ...diskOptions });
  const events: string[] = [];
  const address: Address = { path: join(temporaryFolder(), 'nbd.sock') };
  const server = await NbdServer.start({ address, ...rest, disk, onEvent: (event) => events.push(event) });
  onTestFinished(async () => {
    await server.close();
    disk.close();
  });
  return {
    disk,
    server,
    address: server.address,
    events,
    connect: async (clientOptions) => {
      const client = await NbdClient.connect(server.address, clientOptions);
      onTestFinished(() => client.destroy());
      return client;
    },
    raw: () =>
      new Promise((resolve, reject) => {
        const target = server.address;
        const socket = connect('path' in target ? { path: target.path } : target);
        onTestFinished(() => void socket.destroy());
        socket.once('error', reject);
        socket.once('connect', () => {
          socket.removeListener('error', reject);
          socket.on('error', () => undefined);
          resolve(socket);
        });
      }),
  };
}

/** A server under test with a control socket, and a client of it. */
export interface Controlled extends Serving {
  readonly control: ControlClient;
  readonly path: string;
  readonly folder: string;
  stopped(): boolean;
}

export async function controlled(options: ServingOptions = {}): Promise<Controlled> {
  const world = await serving(options);
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

/** Bytes that tell where they are. */
export function pattern(lengthBytes: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  for (let i = 0; i < lengthBytes; i++) bytes[i] = (i * 7 + (i >>> 9) * 13 + seed) & 0xff;
  return bytes;
}

/** The end of a socket: everything that came until then. */
export function untilClosed(socket: Socket): Promise<Buffer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('close', () => resolve(Buffer.concat(chunks)));
  });
}
