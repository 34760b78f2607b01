import { runCommandLine } from '../../src/cli/program.ts';

/** What a command line printed, and how it ended. */
export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the command line in this process. */
export async function run(...args: string[]): Promise<Outcome> {
  let out = '';
  let err = '';
  const code = await runCommandLine(args, '0.0.0-test', {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    isTerminal: false,
    useColour: false,
  });
  return { code, out, err };
}
