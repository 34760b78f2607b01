import { existsSync } from 'node:fs';
import process from 'node:process';
import { Command, Option } from 'commander';
import { FileDevice, MemoryDevice } from '../blockdev/index.ts';
import { codeOf, DeviceError, systemTimers } from '../core/index.ts';
import { profiles } from '../faults/index.ts';
import {
  type Address,
  ControlServer,
  type Medium,
  MIN_CACHE_BYTES,
  NBD_PORT,
  NbdServer,
  ServedDisk,
} from '../serve/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN } from './exit-codes.ts';
import type { Output } from './output.ts';
import { misuse } from './scenarios.ts';
import { formatCount, parseCount, parseSize } from './units.ts';

/** The options of `powercut serve nbd`, as parsed. */
interface ServeNbdFlags {
  readonly size?: number;
  readonly image?: string;
  readonly readOnly?: boolean;
  readonly profile: keyof typeof profiles | 'none';
  readonly cache?: number;
  readonly socket?: string;
  readonly port?: number;
  readonly bind: string;
  readonly exportName: string;
  readonly control?: string;
  readonly onCut: 'shutdown' | 'disconnect';
  readonly maxConnections?: number;
  readonly json?: boolean;
}

const SERVE_HELP = `
A line on standard output says when clients can come, and where:
  ready nbd+unix:///?socket=disk.sock: 67,108,864 bytes, disk nvme-512, control ctl.sock
What happens to clients is told on standard error. SIGINT, SIGTERM and "powercut ctl stop" shut the disk down in
order: what is in its cache becomes durable.

Disks (--profile): as for explore; "none" has no volatile cache, and a cut loses nothing.

Exit codes: 0 stopped, 2 misuse.

Examples:
  powercut serve nbd --size 64M --socket disk.sock --control ctl.sock
  nbdcopy some.img 'nbd+unix:///?socket=disk.sock'
  powercut ctl --control ctl.sock cut --nth 100 --of write
  powercut serve nbd --image disk.img --size 1G --port 10809      made if it is not there
`;

/** `powercut serve`. */
export function serveCommand({ output, exit }: CommandContext): Command {
  const nbd = new Command('nbd')
    .description('a disk for NBD clients (nbdcopy, qemu, fio, the Linux kernel), whose power fails when you say so')
    .option('--size <size>', 'of a disk in memory, or of an image to be made: 64M, 1G', parseSize)
    .option('--image <file>', 'an image file: what is durable is in it')
    .option('--read-only', 'refuse writes')
    .addOption(
      new Option('--profile <name>', 'what a cut may do to what was not flushed')
        .choices([...Object.keys(profiles), 'none'])
        .default('nvme-512'),
    )
    .option('--cache <size>', 'what the disk holds before it writes out by itself; default 32M', parseSize)
    .option('--socket <path>', 'listen at a Unix socket')
    .option('--port <n>', `listen at a TCP port, 0 for any; default ${NBD_PORT}`, parseCount(0, 65_535))
    .option('--bind <address>', 'the address to listen at with --port', '127.0.0.1')
    .option('--export-name <name>', 'what clients may ask for beside the default export', '')
    .option('--control <path>', 'listen for "powercut ctl" at a Unix socket')
    .addOption(
      new Option('--on-cut <what>', 'what clients see of a power cut: errors until they connect again, or its end')
        .choices(['shutdown', 'disconnect'])
        .default('shutdown'),
    )
    .option('--max-connections <n>', 'turn away more clients than this; default 64', parseCount(1, 10_000))
    .option('--json', 'the line that says "ready" as an object')
    .addHelpText('after', SERVE_HELP)
    .action(async (flags: ServeNbdFlags) => exit(await runServeNbd(flags, output)));
  return new Command('serve').description('put a disk that loses power before real clients').addCommand(nbd);
}

/** Runs `powercut serve nbd`, until it is stopped. @returns the exit code */
async function runServeNbd(flags: ServeNbdFlags, output: Output): Promise<number> {
  const address = addressOf(flags);
  const disk = openDisk(flags);
  const stopped = new StopSignal();
  let server: NbdServer | undefined;
  let control: ControlServer | undefined;
  try {
    server = await NbdServer.start({
      disk,
      address,
      exportName: flags.exportName,
      description: `powercut, disk ${flags.profile}`,
      onCut: flags.onCut,
      ...(flags.maxConnections === undefined ? {} : { maxConnections: flags.maxConnections }),
      onEvent: (message) => output.err(`powercut: ${message}\n`),
    });
    if (flags.control !== undefined) control = await startControl(flags.control, disk, server, stopped);
    output.out(readyLine(flags, disk, server));
    await stopped.promise;
  } catch (error) {
    throw codeOf(error) === 'EBUSY' ? misuse((error as Error).message, error) : error;
  } finally {
    stopped.dispose();
    await control?.close();
    await server?.close();
    disk.close();
  }
  return EXIT_CLEAN;
}

function startControl(path: string, disk: ServedDisk, server: NbdServer, stopped: StopSignal): Promise<ControlServer> {
  return ControlServer.start(path, {
    disk,
    serverStatistics: () => ({ ...server.statistics }),
    stop: () => void systemTimers.soon(() => stopped.stop()),
  });
}

function addressOf(flags: ServeNbdFlags): Address {
  if (flags.socket === undefined) return { host: flags.bind, port: flags.port ?? NBD_PORT };
  if (flags.port !== undefined) throw misuse('--socket: it does not go with --port: clients come one way');
  return { path: flags.socket };
}

function openDisk(flags: ServeNbdFlags): ServedDisk {
  if (flags.cache !== undefined && flags.cache < MIN_CACHE_BYTES) throw misuse('--cache: expected at least 1M');
  const profile = flags.profile === 'none' ? undefined : profiles[flags.profile];
  return new ServedDisk(openMedium(flags, profile?.sectorBytes ?? 512, profile?.physicalSectorBytes ?? 512), {
    ...(profile === undefined ? {} : { profile }),
    ...(flags.cache === undefined ? {} : { cacheBytes: flags.cache }),
    readOnly: flags.readOnly ?? false,
  });
}

function openMedium(flags: ServeNbdFlags, sectorBytes: number, physicalSectorBytes: number): Medium {
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

function readyLine(flags: ServeNbdFlags, disk: ServedDisk, server: NbdServer): string {
  const sizeBytes = disk.sectorCount * disk.sectorBytes;
  if (flags.json) {
    const { uri, address } = server;
    return `${JSON.stringify({ ready: true, uri, ...address, sizeBytes, profile: flags.profile, control: flags.control ?? null })}\n`;
  }
  const control = flags.control === undefined ? '' : `, control ${flags.control}`;
  return `ready ${server.uri}: ${formatCount(sizeBytes)} bytes, disk ${flags.profile}${control}\n`;
}

/** Ends when somebody says stop: a signal, or the control socket. */
class StopSignal {
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
