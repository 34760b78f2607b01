import { Command } from 'commander';
import { runSelfTest, type SelfTestOptions } from '../testing/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN, EXIT_VIOLATION } from './exit-codes.ts';
import { type Output, paint } from './output.ts';

/** The options of `powercut selftest`, as parsed. */
interface SelfTestFlags {
  readonly json?: boolean;
}

const HELP = `
Prints one marker for each behaviour that was seen (docs/testing/index.md), within some seconds. What judges a run takes
the exit code, or --json: {"ok": true, "markers": [{"marker": "...", "ok": true, "observed": "..."}, ...]}.

Exit codes: 0 all were seen; 1 one was not: its marker is absent, and standard error says what was seen instead; 2 misuse.

Examples:
  powercut selftest
  powercut selftest --json
`;

/** Nothing is said of progress before this. */
const QUIET_MS = 1000;

export function selfTestCommand({ output, exit }: CommandContext): Command {
  return new Command('selftest')
    .description('boot store, server and clients on a virtio disk, cut its power, and see that all keep their promises')
    .option('--json', 'one object on standard output')
    .addHelpText('after', HELP)
    .action(async (flags: SelfTestFlags) => exit(await runSelfTestCommand(flags, output)));
}

/**
 * Runs `powercut selftest`. A marker is printed once its behaviour was seen, and by nothing else: not even the message of a failure contains one.
 * @param options for tests of the tests
 * @returns the exit code
 */
export async function runSelfTestCommand(
  flags: SelfTestFlags,
  output: Output,
  options: Pick<SelfTestOptions, 'variant' | 'only'> = {},
): Promise<number> {
  const startMs = output.clock.monotonicMs();
  const report = await runSelfTest({
    ...options,
    onBegin: ({ name }) => {
      if (output.clock.monotonicMs() - startMs > QUIET_MS) output.err(`looking at: ${name}\n`);
    },
    onResult: ({ ok, marker, observed }, { name }) => {
      if (!ok) output.err(`${paint(output, 'red', 'NOT SEEN')} ${name}: ${observed}\n`);
      else if (!flags.json) output.out(`${marker}\n`);
    },
  });
  if (flags.json) output.out(`${JSON.stringify({ ok: report.ok, markers: report.markers })}\n`);
  return report.ok ? EXIT_CLEAN : EXIT_VIOLATION;
}
