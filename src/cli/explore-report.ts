import type { ExploreResult, Violation } from '../explore/index.ts';
import { profiles } from '../faults/index.ts';
import { EXIT_CLEAN, EXIT_INCOMPLETE, EXIT_VIOLATION } from './exit-codes.ts';
import { commitOf, type ExploreFlags } from './explore-flags.ts';
import { formatTable, type Output, paint } from './output.ts';
import { tokenPath, whatBreaks } from './scenarios.ts';
import { sizeOf } from './story.ts';
import { formatCount, formatMs } from './units.ts';

/** Rows of the table before it is cut short. */
const ROWS_SHOWN = 40;

/** The verdict of an exploration. */
export function exitCode(result: ExploreResult, flags: ExploreFlags): number {
  if (result.violations.length > 0 || result.nondeterminism !== undefined) return EXIT_VIOLATION;
  // What was asked for and did not happen was not shown.
  if (result.incompleteReason?.startsWith('no fault') === true) return EXIT_VIOLATION;
  return flags.requireComplete && !result.complete ? EXIT_INCOMPLETE : EXIT_CLEAN;
}

/** The fields are stable; docs/exploration.md lists them. */
export function toJson(result: ExploreResult, flags: ExploreFlags): unknown {
  return {
    scenario: result.scenario,
    strategy: result.strategy,
    depth: result.depth,
    commit: commitOf(flags),
    profile: result.profile,
    through: flags.through,
    seed: result.seed ?? null,
    complete: result.complete,
    incompleteReason: result.incompleteReason ?? null,
    coveredShare: result.coveredShare ?? null,
    crashPoints: result.crashPoints,
    momentsCovered: result.momentsCovered,
    images: result.images.toString(),
    imagesByDepth: result.imagesByDepth.map(String),
    recoveries: result.recoveries,
    knownRecoveries: result.knownRecoveries,
    faults: result.faults,
    violatingRecoveries: result.violatingRecoveries,
    violations: result.violations.map((violation) => {
      const { token, message, where, cuts, kept } = violation;
      return { token, message, where, cuts, ...sizeOf(violation), kept };
    }),
    nondeterminism: result.nondeterminism ?? null,
    unrepeatable: result.unrepeatable ?? null,
    acknowledged: result.acknowledged,
    points: result.points.map((point) => ({ ...point, images: point.images.toString() })),
    elapsedMs: Math.round(result.elapsedMs),
  };
}

/** For people: a table by crash point, a summary, each violation with the line that replays it. */
export function report(result: ExploreResult, name: string, flags: ExploreFlags, output: Output): void {
  const disk = profiles[flags.profile];
  const broken = flags.break === undefined ? '' : `, without a rule: ${whatBreaks(flags.break)}`;
  // A file of one's own may have no such thing as commits.
  const commits =
    tokenPath(name) === undefined || flags.commit !== undefined ? `${commitOf(flags)} commits${broken}, ` : '';
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
    `${shareOf(result)}${result.crashPoints} crash points, ${images}`,
    `${formatCount(result.recoveries)} recoveries${knownOf(result)} in ${formatMs(result.elapsedMs)}`,
    ...faultsOf(result),
    verdictOf(result, output),
    ...warningsOf(result).map((text) => paint(output, 'yellow', `WARNING: ${text}`)),
  ];
  return lines.join('\n');
}

function warningsOf({ acknowledged, unrepeatable }: ExploreResult): string[] {
  const warnings: string[] = [];
  if (acknowledged === 0) {
    warnings.push(
      'the workload acknowledged nothing, so nothing had to survive: call run.acknowledge(op) where it reports success',
    );
  }
  if (unrepeatable !== undefined) {
    warnings.push(
      `the tokens can't be replayed, the workload is not the same each time: ${unrepeatable}: take time, randomness and identifiers from what is fixed`,
    );
  }
  return warnings;
}

/** Those that did not have to be run. */
function knownOf({ knownRecoveries }: ExploreResult): string {
  return knownRecoveries === 0 ? '' : ` (${formatCount(knownRecoveries)} known from others)`;
}

function faultsOf(result: ExploreResult): string[] {
  const fired = Object.entries(result.faults).map(([kind, count]) => `${kind} ${formatCount(count)}`);
  return fired.length === 0 ? [] : [`faults that fired: ${fired.join(', ')}`];
}

/** What of it was covered, where that can be said. */
function shareOf({ complete, coveredShare, strategy }: ExploreResult): string {
  if (complete || coveredShare === undefined || strategy !== 'exhaustive') return '';
  // Of trees of 10^600 leaves a share is nothing that a number could hold.
  if (coveredShare < 0.0001) return 'less than 0.01 % covered: ';
  // Not all of it, or it would be complete.
  return coveredShare >= 0.995 ? 'over 99 % covered: ' : `about ${(100 * coveredShare).toPrecision(2)} % covered: `;
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
  return [
    paint(output, 'red', `VIOLATION: ${violation.message}`),
    ...violation.where.map((where) => `  power cut ${where}`),
    `  ${replayLine(violation, name)}`,
  ].join('\n');
}

/** The line that replays a violation. */
export function replayLine(violation: Violation, name: string): string {
  const file = tokenPath(name) === '' ? ` --scenario ${shellWord(name)}` : '';
  return `replay it: npx powercut replay ${violation.token}${file}`;
}

/** One word for a POSIX shell. */
function shellWord(text: string): string {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
