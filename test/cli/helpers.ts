import { runCommandLine } from '../../src/cli/program.ts';
import { type Clock, VirtualClock } from '../../src/core/index.ts';

/** What a command line printed, and how it ended. */
export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the command line in this process, on a clock that stands still: nothing takes long enough to show progress. */
export function run(...args: string[]): Promise<Outcome> {
  return runAt(new VirtualClock(), args);
}

/** The same on a clock of the caller's, and on a terminal where it says so. */
export async function runAt(clock: Clock, args: readonly string[], isTerminal = false): Promise<Outcome> {
  let out = '';
  let err = '';
  const code = await runCommandLine(args, '0.0.0-test', {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    isTerminal,
    useColour: false,
    clock,
  });
  return { code, out, err };
}
