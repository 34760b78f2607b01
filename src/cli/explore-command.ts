import {
  type ExploreOptions,
  type ExploreResult,
  exploreAsync,
  type StrategyName,
  type Violation,
} from '../explore/index.ts';
import { type ProfileName, profiles } from '../faults/index.ts';
import type { CommitMode } from '../statefs/index.ts';
import { EXIT_CLEAN, EXIT_INCOMPLETE, EXIT_VIOLATION } from './exit-codes.ts';
import { formatTable, type Output, paint } from './output.ts';
import { ProgressLine } from './progress.ts';
import { loadScenario, misuse, scenarioFailure, tokenPath, whatBreaks } from './scenarios.ts';
import { stackOf, type Through } from './stack.ts';
import { formatCount, formatMs } from './units.ts';

/** The options of `powercut explore`, as parsed. */
export interface ExploreFlags {
  readonly depth: number;
  readonly commit?: CommitMode;
  readonly profile: ProfileName;
  readonly strategy: StrategyName;
  readonly through: Through;
  readonly seed?: number;
  readonly runs?: number;
  readonly bound?: number;
  readonly time?: number;
  readonly maxRecoveries?: number;
  readonly maxViolations?: number;
  readonly size?: number;
  readonly break?: string;
  readonly requireComplete?: boolean;
  readonly all?: boolean;
  readonly json?: boolean;
}

/** Rows of the table before it is cut short. */
const ROWS_SHOWN = 40;

/** Runs `powercut explore`. @returns the exit code */
export async function runExplore(name: string, flags: ExploreFlags, output: Output): Promise<number> {
  checkTogether(flags);
  const commit = flags.commit ?? (flags.break === 'temp-flush' ? 'ordered' : 'checksummed');
  const scenario = await loadScenario(name, { commit, sizeBytes: flags.size, broken: flags.break });
  const progress = new ProgressLine(output);
  const result = await exploreAsync(scenario, {
    ...exploreOptions(flags),
    ...stackOf(flags.through),
    settings: settingsOf(name, commit, flags),
    clock: output.clock,
    onProgress: (now) => progress.update(now),
  })
    .catch((error: unknown) => {
      throw scenarioFailure(name, error);
    })
    .finally(() => progress.end());
  if (flags.json) output.out(`${JSON.stringify(toJson(result, commit, flags))}\n`);
  else report(result, name, commit, flags, output);
  return exitCode(result, flags);
}

function checkTogether(flags: ExploreFlags): void {
  const { strategy } = flags;
  if (flags.bound !== undefined && strategy !== 'bounded') throw misuse('--bound: it goes with --strategy bounded');
  if (flags.runs !== undefined && strategy !== 'random') throw misuse('--runs: it goes with --strategy random');
  if (flags.seed !== undefined && strategy !== 'random') throw misuse('--seed: it goes with --strategy random');
  if (flags.break === 'temp-flush' && flags.commit === 'checksummed') {
    throw misuse('--break temp-flush: a checksummed commit has no such flush; use --commit ordered');
  }
}

function exploreOptions(flags: ExploreFlags): ExploreOptions {
  const options: Record<string, unknown> = { depth: flags.depth, profile: flags.profile, strategy: flags.strategy };
  const optional = { seed: flags.seed, runs: flags.runs, bound: flags.bound, timeMs: flags.time };
  const limits = { maxRecoveries: flags.maxRecoveries, maxViolations: flags.maxViolations };
  for (const [key, value] of Object.entries({ ...optional, ...limits })) if (value !== undefined) options[key] = value;
  return options as ExploreOptions;
}

function settingsOf(name: string, commit: CommitMode, flags: ExploreFlags): Record<string, string> {
  const settings: Record<string, string> = { commit, through: flags.through };
  if (flags.size !== undefined) settings['size'] = String(flags.size);
  if (flags.break !== undefined) settings['break'] = flags.break;
  const file = tokenPath(name);
  if (file !== undefined) settings['file'] = file;
  return settings;
}

function exitCode(result: ExploreResult, flags: ExploreFlags): number {
  if (result.violations.length > 0 || result.nondeterminism !== undefined) return EXIT_VIOLATION;
  return flags.requireComplete && !result.complete ? EXIT_INCOMPLETE : EXIT_CLEAN;
}

/** The fields are stable; docs/exploration.md lists them. */
function toJson(result: ExploreResult, commit: CommitMode, flags: ExploreFlags): unknown {
  return {
    scenario: result.scenario,
    strategy: result.strategy,
    depth: result.depth,
    commit,
    profile: result.profile,
    through: flags.through,
    seed: result.seed ?? null,
    complete: result.complete,
    incompleteReason: result.incompleteReason ?? null,
    crashPoints: result.crashPoints,
    momentsCovered: result.momentsCovered,
    images: result.images.toString(),
    imagesByDepth: result.imagesByDepth.map(String),
    recoveries: result.recoveries,
    violatingRecoveries: result.violatingRecoveries,
    violations: result.violations.map(({ token, message, where, cuts, kept }) => ({
      token,
      message,
      where,
      cuts,
      kept,
    })),
    nondeterminism: result.nondeterminism ?? null,
    points: result.points.map((point) => ({ ...point, images: point.images.toString() })),
    elapsedMs: Math.round(result.elapsedMs),
  };
}

function report(result: ExploreResult, name: string, commit: CommitMode, flags: ExploreFlags, output: Output): void {
  const disk = profiles[flags.profile];
  const broken = flags.break === undefined ? '' : `, without a rule: ${whatBreaks(flags.break)}`;
  // A file of one's own may have no such thing as commits.
  const commits = tokenPath(name) === undefined || flags.commit !== undefined ? `${commit} commits${broken}, ` : '';
  output.out(`${result.scenario}: ${commits}${flags.through === 'virtio' ? 'through a virtio-blk ring' : 'direct'}, `);
  output.out(
    `disk ${disk.name}, ${result.strategy}, up to ${result.depth} power cut${result.depth === 1 ? '' : 's'} in a row\n\n`,
  );
  const rows = result.points.map((point) => [
    point.index,
    point.label,
    formatCount(point.images),
    point.recoveries,
    point.violations,
  ]);
  const shown = flags.all ? rows : rows.slice(0, ROWS_SHOWN);
  const table = formatTable(['#', 'the power fails', 'images', 'recoveries', 'violations'], shown);
  output.out(`${paint(output, 'bold', table[0] as string)}\n${table.slice(1).join('\n')}\n`);
  if (shown.length < rows.length)
    output.out(`... and ${rows.length - shown.length} more crash points (--all shows them)\n`);
  output.out(`\n${summaryOf(result, output)}\n`);
  for (const violation of result.violations) output.out(`\n${describeViolation(violation, name, output)}\n`);
}

function summaryOf(result: ExploreResult, output: Output): string {
  const deeper = result.imagesByDepth
    .map((images, at) => [images, at + 1] as const)
    .filter(([images, cuts]) => cuts > 1 && images > 0n)
    .map(([images, cuts]) => `${formatCount(images)} after ${cuts} cuts`);
  const images = `${formatCount(result.images)} reachable disk images after one cut${deeper.map((text) => `, ${text}`).join('')}`;
  const more = result.incompleteReason?.endsWith(' violations') ? ' (--max-violations N goes on)' : '';
  const lines = [
    result.complete
      ? paint(output, 'green', `COMPLETE: every power cut and every reachable image was covered`)
      : paint(output, 'yellow', `INCOMPLETE: ${result.incompleteReason}${more}`),
    `${result.crashPoints} crash points, ${images}`,
    `${formatCount(result.recoveries)} recoveries in ${formatMs(result.elapsedMs)}`,
    verdictOf(result, output),
  ];
  return lines.join('\n');
}

function verdictOf(result: ExploreResult, output: Output): string {
  if (result.nondeterminism !== undefined) {
    const { message, step } = result.nondeterminism;
    return paint(output, 'red', `NOT DETERMINISTIC: two recoveries of one image differ at step ${step}: ${message}`);
  }
  if (result.violatingRecoveries === 0) return paint(output, 'green', 'no violation');
  const { length } = result.violations;
  const many =
    result.violatingRecoveries === 1 ? '1 recovery violates' : `${result.violatingRecoveries} recoveries violate`;
  const alike =
    length < result.violatingRecoveries ? `; made small they are ${length} case${length === 1 ? '' : 's'}` : '';
  return paint(output, 'red', `${many} the invariant${alike}`);
}

function describeViolation(violation: Violation, name: string, output: Output): string {
  const file = tokenPath(name) === '' ? ` --scenario ${shellWord(name)}` : '';
  return [
    paint(output, 'red', `VIOLATION: ${violation.message}`),
    ...violation.where.map((where) => `  power cut ${where}`),
    `  replay it: npx powercut replay ${violation.token}${file}`,
  ].join('\n');
}

/** One word for a POSIX shell. */
function shellWord(text: string): string {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
