import { Command, Option } from 'commander';
import {
  type BenchmarkCase,
  type BenchmarkStrategy,
  benchmarkCases,
  benchmarkStrategies,
  runCase,
} from '../testing/index.ts';
import {
  type BugsRow,
  describeRows,
  markdownRows,
  markdownSummary,
  median,
  resultOf,
  rowOf,
  type StrategyResult,
} from './bugs-report.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN, EXIT_VIOLATION } from './exit-codes.ts';
import { type Output, paint } from './output.ts';
import { misuse } from './scenarios.ts';
import { StatusLine } from './status-line.ts';
import { formatMs, parseCount } from './units.ts';

/** The options of `powercut bugs`, as parsed. */
interface BugsFlags {
  readonly only?: string;
  readonly strategy?: string;
  readonly budget: number;
  readonly seed: number;
  readonly json?: boolean;
  readonly markdown?: boolean;
}

const HELP = `
Family C needs a power cut, family M a fault of the medium as well; rows with a name are sound stores, in which nothing
must be found. A number is the recoveries until the bug was found; operations and deviations are those of the smallest
failure that was found, deviations being sectors that did not keep their newest version, and faults.

Strategies (--strategy), each with the same budget:
${benchmarkStrategies.map(({ name, what }) => `  ${name.padEnd(19)}${what}`).join('\n')}

Exit codes: 0 the last strategy that was run finds every bug, and nothing in the sound stores; 1 otherwise; 2 misuse.

Examples:
  powercut bugs                                   every bug, every strategy
  powercut bugs --strategy lazy-recovery-cuts     what powercut explore does
  powercut bugs --only 17                         one bug, or one sound store by its name
  powercut bugs --json > bugs.json
`;

/** `powercut bugs`. */
export function bugsCommand({ output, exit }: CommandContext): Command {
  return new Command('bugs')
    .description('score the strategies on bugs that shipped: which find which, how soon, how small')
    .option('--only <id>', 'one bug by its number, or one sound store by its name')
    .addOption(
      new Option('--strategy <name>', 'one strategy; default: all').choices(
        benchmarkStrategies.map(({ name }) => name),
      ),
    )
    .option('--budget <n>', 'recoveries that each strategy has for each case', parseCount(1), 20_000)
    .option('--seed <n>', 'of the random strategy', parseCount(0), 1)
    .addOption(new Option('--json', 'a list of rows on standard output').conflicts('markdown'))
    .option('--markdown', 'the tables of README.md and docs/seeded-bugs.md on standard output')
    .addHelpText('after', HELP)
    .action((flags: BugsFlags) => exit(runBugs(flags, output)));
}

function runBugs(flags: BugsFlags, output: Output): number {
  const cases = benchmarkCases.filter(({ id }) => flags.only === undefined || String(id) === flags.only);
  if (cases.length === 0) {
    const names = benchmarkCases.filter(({ isControl }) => isControl).map(({ id }) => id);
    throw misuse(`--only: expected a number from 1 to 40, or one of ${names.join(', ')}, got "${flags.only}"`);
  }
  const strategies = benchmarkStrategies.filter(({ name }) => (flags.strategy ?? name) === name);
  const startMs = output.clock.monotonicMs();
  const rows = runAll(cases, strategies, flags, output);
  if (flags.json) output.out(`${JSON.stringify(rows)}\n`);
  else if (flags.markdown) output.out(`${markdownSummary(rows)}\n\n${markdownRows(rows)}\n`);
  const judged = strategies.at(-1) as BenchmarkStrategy;
  const problems = problemsIn(rows, judged, strategies);
  if (!flags.json && !flags.markdown) {
    output.out(`${describeRows(rows)}\n${verdict(rows, judged, problems, output)}\n`);
    output.out(`in ${formatMs(output.clock.monotonicMs() - startMs)}\n`);
  }
  return problems.length === 0 ? EXIT_CLEAN : EXIT_VIOLATION;
}

function runAll(
  cases: readonly BenchmarkCase[],
  strategies: readonly BenchmarkStrategy[],
  flags: BugsFlags,
  output: Output,
): BugsRow[] {
  const status = new StatusLine(output);
  const total = cases.length * strategies.length;
  let done = 0;
  const rows = cases.map((theCase) => {
    const results: Record<string, StrategyResult> = {};
    for (const strategy of strategies) {
      done++;
      status.update(() => `${done} of ${total}: ${theCase.isControl ? '' : 'bug '}${theCase.id}, ${strategy.name}`);
      const { budget, seed } = flags;
      results[strategy.name] = resultOf(runCase(theCase, strategy, { budget, seed, clock: output.clock }));
    }
    return rowOf(theCase, results);
  });
  status.end();
  return rows;
}

/** What keeps the exit code from being 0. */
function problemsIn(rows: readonly BugsRow[], judged: BenchmarkStrategy, all: readonly BenchmarkStrategy[]): string[] {
  const missed = rows.filter((row) => !row.control && row.strategies[judged.name]?.found !== true);
  const alarms = rows.filter((row) => row.control && all.some(({ name }) => row.strategies[name]?.found === true));
  return [
    ...missed.map(({ id }) => `${judged.name} does not find bug ${id}`),
    ...alarms.map(({ id }) => `an alarm on the sound store ${id}`),
  ];
}

function verdict(
  rows: readonly BugsRow[],
  judged: BenchmarkStrategy,
  problems: readonly string[],
  output: Output,
): string {
  if (problems.length > 0) return problems.map((problem) => paint(output, 'red', problem)).join('\n');
  const bugs = rows.filter(({ control }) => !control);
  const small = bugs.map((row) => row.strategies[judged.name] as StrategyResult);
  const operations = median(small.flatMap(({ shrunkOperations }) => shrunkOperations ?? []));
  const deviations = median(small.flatMap(({ shrunkDeviations }) => shrunkDeviations ?? []));
  const alarms = rows.length > bugs.length ? `; no alarm on ${rows.length - bugs.length} sound stores` : '';
  const found = bugs.length > 0 ? `${judged.name} finds all ${bugs.length}` : 'nothing found';
  const size = bugs.length > 0 ? `; median smallest failure: ${operations} operations, ${deviations} deviations` : '';
  return paint(output, 'green', `${found}${alarms}${size}`);
}
