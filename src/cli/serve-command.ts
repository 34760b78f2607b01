import { Command, Option } from 'commander';
import { codeOf } from '../core/index.ts';
import { type Address, type ControlServer, NBD_PORT, NbdServer, type ServedDisk } from '../serve/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN } from './exit-codes.ts';
import type { Output } from './output.ts';
import { misuse } from './scenarios.ts';
import { type DiskFlags, openDisk, StopSignal, startControl, withDiskOptions } from './serve-disk.ts';
import { serveVhostUserCommand } from './serve-vhost-command.ts';
import { formatCount, parseCount } from './units.ts';

/** The options of `powercut serve nbd`, as parsed. */
interface ServeNbdFlags extends DiskFlags {
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
  const nbd = withDiskOptions(new Command('nbd'))
    .description('a disk for NBD clients (nbdcopy, qemu, fio, the Linux kernel), whose power fails when you say so')
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
  return new Command('serve')
    .description('put a disk that loses power before real clients')
    .addCommand(nbd)
    .addCommand(serveVhostUserCommand({ output, exit }));
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
    if (flags.control !== undefined) control = await startControl(flags.control, disk, server.statistics, stopped);
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

function addressOf(flags: ServeNbdFlags): Address {
  if (flags.socket === undefined) return { host: flags.bind, port: flags.port ?? NBD_PORT };
  if (flags.port !== undefined) throw misuse('--socket: it does not go with --port: clients come one way');
  return { path: flags.socket };
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
