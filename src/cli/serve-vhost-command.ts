import { Command, Option } from 'commander';
import { codeOf } from '../core/index.ts';
import { type ControlServer, type ServedDisk, VhostUserServer } from '../serve/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN } from './exit-codes.ts';
import type { Output } from './output.ts';
import { misuse } from './scenarios.ts';
import { type DiskFlags, openDisk, StopSignal, startControl, withDiskOptions } from './serve-disk.ts';
import { formatCount, parseCount } from './units.ts';

/** The options of `powercut serve vhost-user`, as parsed. */
interface ServeVhostFlags extends DiskFlags {
  readonly socket: string;
  readonly queues?: number;
  readonly control?: string;
  readonly onCut: 'stall' | 'disconnect';
  readonly allowUnsealed?: boolean;
  readonly json?: boolean;
}

const HELP = `
A line on standard output says when a machine can come:
  ready disk.sock: 67,108,864 bytes, 8 queues, disk nvme-512, control ctl.sock
What happens to it is told on standard error. SIGINT, SIGTERM and "powercut ctl stop" shut the disk down in order.

Needs Linux on x64 or arm64, and the optional package koffi.

Exit codes: 0 stopped, 2 misuse, or no koffi.

Examples:
  powercut serve vhost-user --size 64M --socket disk.sock --control ctl.sock
  qemu-system-x86_64 ... -m 512 -object memory-backend-memfd,id=mem,size=512M,share=on -numa node,memdev=mem \\
    -chardev socket,id=c0,path=disk.sock,reconnect=1 -device vhost-user-blk-pci,chardev=c0,num-queues=2
  powercut ctl --control ctl.sock cut --nth 100 --of write
`;

/** `powercut serve vhost-user`. */
export function serveVhostUserCommand({ output, exit }: CommandContext): Command {
  return withDiskOptions(new Command('vhost-user'))
    .description('a disk for a virtual machine (QEMU), whose rings it serves in shared memory, and whose power fails')
    .requiredOption('--socket <path>', 'listen at a Unix socket')
    .option('--queues <n>', 'the most queues that a machine may have; default 8', parseCount(1, 256))
    .option('--control <path>', 'listen for "powercut ctl" at a Unix socket')
    .addOption(
      new Option(
        '--on-cut <what>',
        'what a machine sees of a power cut: no answers any more, or the end of its connection',
      )
        .choices(['stall', 'disconnect'])
        .default('stall'),
    )
    .option('--allow-unsealed', 'take memory that could be made shorter: if it is, this process ends')
    .option('--json', 'the line that says "ready" as an object')
    .addHelpText('after', HELP)
    .action(async (flags: ServeVhostFlags) => exit(await runServeVhostUser(flags, output)));
}

/** Runs `powercut serve vhost-user`, until it is stopped. @returns the exit code */
async function runServeVhostUser(flags: ServeVhostFlags, output: Output): Promise<number> {
  const disk = openDisk(flags);
  const stopped = new StopSignal();
  let server: VhostUserServer | undefined;
  let control: ControlServer | undefined;
  try {
    server = await VhostUserServer.start({
      disk,
      path: flags.socket,
      ...(flags.queues === undefined ? {} : { queueCount: flags.queues }),
      onCut: flags.onCut,
      allowUnsealed: flags.allowUnsealed ?? false,
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
    server?.close();
    disk.close();
  }
  return EXIT_CLEAN;
}

function readyLine(flags: ServeVhostFlags, disk: ServedDisk, { queueCount }: VhostUserServer): string {
  const { socket, profile, control } = flags;
  const sizeBytes = disk.sectorCount * disk.sectorBytes;
  if (flags.json) {
    return `${JSON.stringify({ ready: true, path: socket, sizeBytes, queues: queueCount, profile, control: control ?? null })}\n`;
  }
  const where = control === undefined ? '' : `, control ${control}`;
  return `ready ${socket}: ${formatCount(sizeBytes)} bytes, ${queueCount} queues, disk ${profile}${where}\n`;
}
