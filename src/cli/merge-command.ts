import { Command } from 'commander';
import type { CommandContext } from './command.ts';
import { checkJUnit, exploreHere, publish } from './explore-command.ts';
import type { Output } from './output.ts';
import { differenceOf, ResultFile } from './result-file.ts';
import { misuse, tokenPath } from './scenarios.ts';

const HELP = `
The result is the one that a single run would have had. What is missing, a shard or a rest, makes it incomplete.

Exit codes: as of explore.

Example:
  powercut explore boot-control --shard 1/2 --out 1.jsonl     on one machine
  powercut explore boot-control --shard 2/2 --out 2.jsonl     on another
  powercut merge 1.jsonl 2.jsonl --require-complete
`;

interface MergeFlags {
  readonly scenario?: string;
  readonly requireComplete?: boolean;
  readonly all?: boolean;
  readonly junit?: string;
  readonly json?: boolean;
}

/** `powercut merge`. */
export function mergeCommand({ output, exit }: CommandContext): Command {
  return new Command('merge')
    .description('add up what several runs of one exploration have found: shards, or parts of an interrupted one')
    .argument('<files...>', 'as explore --out wrote them')
    .option('--scenario <file>', 'where the scenario is, if not at or below this folder')
    .option('--require-complete', 'exit with 3 unless it is complete')
    .option('--all', 'show every crash point in the table')
    .option('--junit <file>', 'write it as JUnit XML too')
    .option('--json', 'one object on standard output')
    .addHelpText('after', HELP)
    .action(async (files: string[], flags: MergeFlags) => exit(await runMerge(files, flags, output)));
}

async function runMerge(paths: readonly string[], flags: MergeFlags, output: Output): Promise<number> {
  const files = paths.map((path) => ResultFile.read(path));
  const [first] = files as [ResultFile, ...ResultFile[]];
  for (const [at, { header }] of files.entries()) {
    const difference = differenceOf(header, first.header, false);
    if (difference !== undefined)
      throw misuse(`${paths[at]}: it is of another exploration than ${paths[0]}: ${difference}`);
  }
  const { shard: _shard, ...explored } = first.header.flags;
  const { scenario: named, ...shown } = flags;
  const all = { ...explored, ...shown };
  const scenario = named ?? scenarioOf(first.header.scenario);
  checkJUnit(scenario, all, Object.fromEntries(paths.map((path) => [`${path}, which is to be merged`, path])));
  const done = files.flatMap(({ units }) => units);
  const result = await exploreHere(scenario, all, output, { done, onlyDone: true });
  return publish(result, scenario, all, output);
}

/** A file that came from elsewhere runs no script outside of the folder where one stands. */
function scenarioOf(name: string): string {
  if (tokenPath(name) !== '') return name;
  throw misuse(`scenario: ${name} is outside of this folder: name its file with --scenario`);
}
