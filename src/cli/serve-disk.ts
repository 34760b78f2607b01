import { existsSync } from 'node:fs';
import process from 'node:process';
import { type Command, Option } from 'commander';
import { FileDevice, MemoryDevice } from '../blockdev/index.ts';
import { DeviceError, systemTimers } from '../core/index.ts';
import { profiles } from '../faults/index.ts';
import { ControlServer, type Medium, MIN_CACHE_BYTES, ServedDisk } from '../serve/index.ts';
import { misuse } from './scenarios.ts';
import { parseSize } from './units.ts';

/** The options of a disk that is served, whatever the protocol. */
export interface DiskFlags {
  readonly size?: number;
  readonly image?: string;
  readonly readOnly?: boolean;
  readonly profile: keyof typeof profiles | 'none';
  readonly cache?: number;
}

export function withDiskOptions(command: Command): Command {
  return command
    .option('--size <size>', 'of a disk in memory, or of an image to be made: 64M, 1G', parseSize)
    .option('--image <file>', 'an image file: what is durable is in it')
    .option('--read-only', 'refuse writes')
    .addOption(
      new Option('--profile <name>', 'what a cut may do to what was not flushed')
        .choices([...Object.keys(profiles), 'none'])
        .default('nvme-512'),
    )
    .option('--cache <size>', 'what the disk holds before it writes out by itself; default 32M', parseSize);
}

/** @throws CodedError EINVAL for options that make no disk */
export function openDisk(flags: DiskFlags): ServedDisk {
  if (flags.cache !== undefined && flags.cache < MIN_CACHE_BYTES) throw misuse('--cache: expected at least 1M');
  const profile = flags.profile === 'none' ? undefined : profiles[flags.profile];
  return new ServedDisk(openMedium(flags, profile?.sectorBytes ?? 512, profile?.physicalSectorBytes ?? 512), {
    ...(profile === undefined ? {} : { profile }),
    ...(flags.cache === undefined ? {} : { cacheBytes: flags.cache }),
    readOnly: flags.readOnly ?? false,
  });
}

function openMedium(flags: DiskFlags, sectorBytes: number, physicalSectorBytes: number): Medium {
  const { size, image, readOnly = false } = flags;
  if (size === undefined && image === undefined) throw misuse('expected --size or --image: what is to be served');
  if (size !== undefined && size % sectorBytes !== 0)
    throw misuse(`--size: expected whole sectors of ${sectorBytes} bytes, got ${size}`);
  const geometry = { sectorBytes, physicalSectorBytes };
  if (image === undefined) return new MemoryDevice({ ...geometry, sectorCount: (size as number) / sectorBytes });
  try {
    if (size === undefined || existsSync(image)) {
      const device = FileDevice.open(image, { ...geometry, readOnly });
      if (size === undefined || device.sectorCount * sectorBytes === size) return device;
      device.close();
      throw misuse(`--size: ${image} has ${device.sectorCount * sectorBytes} bytes, not ${size}: leave --size out`);
    }
    return FileDevice.create(image, { ...geometry, sectorCount: size / sectorBytes });
  } catch (error) {
    throw error instanceof DeviceError ? misuse(`--image: ${error.message}`, error) : error;
  }
}

export function startControl(
  path: string,
  disk: ServedDisk,
  statistics: object,
  stopped: StopSignal,
): Promise<ControlServer> {
  return ControlServer.start(path, {
    disk,
    serverStatistics: () => ({ ...statistics }),
    stop: () => void systemTimers.soon(() => stopped.stop()),
  });
}

/** Ends when somebody says stop: a signal, or the control socket. */
export class StopSignal {
  readonly promise: Promise<void>;
  readonly #resolve: () => void;
  readonly #onSignal = (): void => this.stop();

  constructor() {
    const { promise, resolve } = withResolvers();
    this.promise = promise;
    this.#resolve = resolve;
    // Once: a second signal ends the process at once, as if nobody listened.
    process.once('SIGINT', this.#onSignal);
    process.once('SIGTERM', this.#onSignal);
  }

  stop(): void {
    this.#resolve();
  }

  dispose(): void {
    process.removeListener('SIGINT', this.#onSignal);
    process.removeListener('SIGTERM', this.#onSignal);
  }
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
