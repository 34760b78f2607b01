import {
  type BenchmarkCase,
  type BenchmarkOutcome,
  type BenchmarkStrategy,
  benchmarkStrategies,
} from '../testing/index.ts';
import { formatTable } from './output.ts';
import { formatCount, formatMs } from './units.ts';

/** One row of the benchmark: a case, and how each strategy that was run did on it. The `--json` output is a list of these. */
export interface BugsRow {
  readonly id: number | string;
  readonly family: 'C' | 'M';
  readonly title: string;
  readonly source: string;
  readonly control: boolean;
  readonly strategies: Readonly<Record<string, StrategyResult>>;
}

export interface StrategyResult {
  readonly found: boolean;
  readonly recoveries: number;
  readonly elapsedMs: number;
  readonly shrunkOperations: number | null;
  readonly shrunkDeviations: number | null;
}

/** The row of a case without results yet. */
export function rowOf(theCase: BenchmarkCase, strategies: Readonly<Record<string, StrategyResult>>): BugsRow {
  const { id, family, title, source, isControl } = theCase;
  return { id, family, title, source, control: isControl, strategies };
}

export function resultOf(outcome: BenchmarkOutcome): StrategyResult {
  const { found, recoveries, elapsedMs, shrunkOperations, shrunkDeviations } = outcome;
  return { found, recoveries, elapsedMs: Math.round(elapsedMs), shrunkOperations, shrunkDeviations };
}

/** What comes out of all rows together, for one strategy. */
export interface Tally {
  readonly strategy: BenchmarkStrategy;
  readonly cutBugs: number;
  readonly mediaBugs: number;
  /** Bugs found with no more recoveries than the last strategy of the list needed to find them. */
  readonly atEqualCost: number;
  readonly falseAlarms: number;
  readonly recoveries: number;
  readonly elapsedMs: number;
}

export function tally(rows: readonly BugsRow[], strategies: readonly BenchmarkStrategy[]): Tally[] {
  const last = strategies.at(-1)?.name;
  return strategies.map((strategy) => {
    const results = rows.flatMap((row) => {
      const result = row.strategies[strategy.name];
      return result === undefined ? [] : [{ row, result }];
    });
    const found = results.filter(({ result }) => result.found);
    const bugs = found.filter(({ row }) => !row.control);
    const costOfLast = (row: BugsRow) => row.strategies[last ?? '']?.recoveries ?? 0;
    return {
      strategy,
      cutBugs: bugs.filter(({ row }) => row.family === 'C').length,
      mediaBugs: bugs.filter(({ row }) => row.family === 'M').length,
      atEqualCost: bugs.filter(({ row, result }) => result.recoveries <= costOfLast(row)).length,
      falseAlarms: found.length - bugs.length,
      recoveries: results.reduce((sum, { result }) => sum + result.recoveries, 0),
      elapsedMs: results.reduce((sum, { result }) => sum + result.elapsedMs, 0),
    };
  });
}

export function strategiesIn(rows: readonly BugsRow[]): readonly BenchmarkStrategy[] {
  return benchmarkStrategies.filter(({ name }) => rows.some((row) => row.strategies[name] !== undefined));
}

/** The table for people: a line a case, and what each strategy comes to. */
export function describeRows(rows: readonly BugsRow[]): string {
  const strategies = strategiesIn(rows);
  const header = [
    'bug',
    'family',
    ...strategies.map(({ short }) => short),
    'operations',
    'deviations',
    'what is wrong',
  ];
  const lines = rows.map((row) => [
    row.id,
    row.family,
    ...strategies.map(({ name }) => cellOf(row.strategies[name])),
    ...smallestOf(row, strategies),
    row.control ? `nothing: ${row.title}` : row.title,
  ]);
  return `${formatTable(header, lines).join('\n')}\n\n${describeTally(rows, strategies)}\n`;
}

function cellOf(result: StrategyResult | undefined): string | number {
  return result?.found === true ? result.recoveries : '-';
}

/** The smallest failure of the last strategy that found one. */
function smallestOf(row: BugsRow, strategies: readonly BenchmarkStrategy[]): [string | number, string | number] {
  const { shrunkOperations, shrunkDeviations } =
    strategies.map(({ name }) => row.strategies[name]).findLast((result) => result?.found === true) ?? {};
  return [shrunkOperations ?? '-', shrunkDeviations ?? '-'];
}

function describeTally(rows: readonly BugsRow[], strategies: readonly BenchmarkStrategy[]): string {
  const bugs = rows.filter(({ control }) => !control);
  const count = (family: string) => bugs.filter((row) => row.family === family).length;
  const header = [
    'strategy',
    `cut bugs of ${count('C')}`,
    `media bugs of ${count('M')}`,
    'at equal cost',
    `false alarms of ${rows.length - bugs.length}`,
    'recoveries',
    'time',
  ];
  const lines = tally(rows, strategies).map((one) => [
    one.strategy.name,
    one.cutBugs,
    one.mediaBugs,
    one.atEqualCost,
    one.falseAlarms,
    formatCount(one.recoveries),
    formatMs(one.elapsedMs),
  ]);
  return formatTable(header, lines).join('\n');
}

/** The middle of the numbers; of an even count the lower one. */
export function median(numbers: readonly number[]): number | undefined {
  return numbers.toSorted((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)];
}

/** What each strategy comes to, as the README shows it. */
export function markdownSummary(rows: readonly BugsRow[]): string {
  const strategies = strategiesIn(rows);
  const bugs = rows.filter(({ control }) => !control);
  const count = (family: string) => bugs.filter((row) => row.family === family).length;
  const lines = tally(rows, strategies).map(
    (one) =>
      `| ${one.strategy.name} | ${one.strategy.what} | ${one.cutBugs} | ${one.mediaBugs} | ${one.atEqualCost} | ${one.falseAlarms} |`,
  );
  const head = `| strategy | visits | cut bugs, of ${count('C')} | media bugs, of ${count('M')} | of all, at equal cost | false alarms |`;
  return [head, '| --- | --- | ---: | ---: | ---: | ---: |', ...lines].join('\n');
}

/** Every case, as the documentation shows it. */
export function markdownRows(rows: readonly BugsRow[]): string {
  const strategies = strategiesIn(rows);
  const names = [
    'bug',
    'family',
    'what is wrong',
    'seen in',
    ...strategies.map(({ name }) => name),
    'smallest failure',
  ];
  const lines = rows.map((row) => {
    const [operations, deviations] = smallestOf(row, strategies);
    const cells = strategies.map(({ name }) =>
      row.strategies[name]?.found === true ? cellOf(row.strategies[name]) : '–',
    );
    const smallest = operations === '-' ? '' : `${operations} / ${deviations}`;
    return `| ${[row.id, row.family, row.title, row.source, ...cells, smallest].join(' | ')} |`;
  });
  const rule = names.map((_, at) => (at < 4 ? '---' : '---:'));
  return [`| ${names.join(' | ')} |`, `| ${rule.join(' | ')} |`, ...lines].join('\n');
}
