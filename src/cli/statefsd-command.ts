import { Command, Option } from 'commander';
import type { CommandContext } from './command.ts';
import { runStatefsd, type StatefsdFlags, signals } from './statefsd-server.ts';
import { parseSize, parseTimeMs } from './units.ts';

const HELP = `
Each subject of the policy has a socket, DIR/SUBJECT.sock, mode 0600: who may open it, is that subject. See
docs/statefsd.md, and docs/security/policy.md for the policy's file.

Signals: SIGTERM and SIGINT answer what has arrived, close cleanly and end; SIGHUP reads the policy anew, and where that
is invalid the old one stays in force.

Exit codes: 0 stopped by a signal; 1 the disk failed in a commit, or closing did: start it again, which decides what is in
doubt; 2 misuse, or it could not start.

Examples:
  powercut statefsd --image state.img --sockets /run/statefsd --policy policy.toml --audit audit.jsonl
  powercut statefsd --image state.img --sockets ./s --audit audit.jsonl --audit-required --deadline 500ms
  kill -HUP PID                                     after a change of policy.toml
`;

/** `powercut statefsd`. */
export function statefsdCommand({ output, exit }: CommandContext): Command {
  return new Command('statefsd')
    .description('serve a store over Unix sockets: policy, audit, budgets')
    .requiredOption('--image <file>', 'the disk image; made on first use')
    .requiredOption('--sockets <dir>', 'where the sockets stand; made where it is not there')
    .option('--policy <file>', 'who may do what, TOML; default: the baseline, updated and keystored alone')
    .option('--audit <file>', 'append a line of JSON for each request; rotated by size')
    .option('--logd <socket>', 'send the audit to a log service')
    .option('--audit-required', 'deny a change whose record can not be written')
    .option('--size <size>', 'of an image that is made', parseSize, 64 * 1024 * 1024)
    .addOption(
      new Option('--commit <mode>', 'checksummed: puts that arrive together share one flush; ordered: each has two')
        .choices(['checksummed', 'ordered'])
        .default('checksummed'),
    )
    .option('--payload <size>', 'largest payload, where the policy says nothing', parseSize, 1024 * 1024)
    .option('--slow <time>', 'warn of requests that take longer', parseTimeMs, 250)
    .option('--deadline <time>', 'give up changes that take longer; default: none', parseTimeMs)
    .option('--for-tests', 'allow reopen')
    .option('--json', 'events as lines of JSON on standard output, the first one when it serves')
    .addHelpText('after', HELP)
    .action(async (flags: StatefsdFlags) => {
      exit(await runStatefsd(flags, output, signals));
    });
}
