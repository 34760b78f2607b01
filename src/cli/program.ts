import { Command, CommanderError } from 'commander';
import { codeOf, messageOf } from '../core/index.ts';
import { bugsCommand } from './bugs-command.ts';
import type { MakeCommand } from './command.ts';
import { ctlCommand } from './ctl-command.ts';
import { EXIT_MISUSE } from './exit-codes.ts';
import { exploreCommand } from './explore-options.ts';
import { exportCommand } from './export-command.ts';
import { fsckCommand } from './fsck-command.ts';
import { fuzzCommand } from './fuzz-command.ts';
import { importCommand } from './import-command.ts';
import { inspectCommand } from './inspect-command.ts';
import { mergeCommand } from './merge-command.ts';
import type { Output } from './output.ts';
import { policyCommand } from './policy-command.ts';
import { replayCommand } from './replay-command.ts';
import { misuse } from './scenarios.ts';
import { scrubCommand } from './scrub-command.ts';
import { selfTestCommand } from './selftest-command.ts';
import { serveCommand } from './serve-command.ts';
import { statefsdCommand } from './statefsd-command.ts';

/** In the order in which the help names them. */
const COMMANDS: readonly MakeCommand[] = [
  exploreCommand,
  replayCommand,
  fuzzCommand,
  mergeCommand,
  bugsCommand,
  selfTestCommand,
  policyCommand,
  serveCommand,
  ctlCommand,
  statefsdCommand,
  fsckCommand,
  inspectCommand,
  scrubCommand,
  exportCommand,
  importCommand,
];

/**
 * Runs the command line.
 * @param args without node and script
 * @returns the exit code
 */
export async function runCommandLine(args: readonly string[], version: string, output: Output): Promise<number> {
  let exit = 0;
  const program = new Command('powercut')
    .description('Explores every power cut of a storage engine: every crash point, every reachable disk image.')
    .version(version);
  const context = {
    output,
    exit: (code: number) => {
      exit = code;
    },
  };
  for (const make of COMMANDS) program.addCommand(make(context));
  for (const command of withSubcommands(program)) speakThrough(output, command);
  try {
    if (args.length === 0)
      throw misuse(
        `expected a command: ${program.commands.map((one) => one.name()).join(', ')}; --help shows what there is`,
      );
    await program.parseAsync([...args], { from: 'user' });
    return exit;
  } catch (error) {
    return exitOfError(error, output);
  }
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}

function speakThrough(output: Output, command: Command): void {
  command.exitOverride().configureOutput({
    writeOut: (text) => output.out(text),
    writeErr: (text) => output.err(text),
    // One line, with the suggestion that commander puts on a second.
    outputError: (text, write) =>
      write(
        `${text
          .trim()
          .replace(/^error:/, 'powercut:')
          .replaceAll('\n', ' ')}\n`,
      ),
  });
}

function exitOfError(error: unknown, output: Output): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_MISUSE;
  if (codeOf(error) === 'EINVAL') {
    output.err(`powercut: ${messageOf(error)}\n`);
    return EXIT_MISUSE;
  }
  if (error instanceof RangeError || error instanceof TypeError) {
    output.err(`powercut: ${messageOf(error)}\n`);
    return EXIT_MISUSE;
  }
  throw error;
}
