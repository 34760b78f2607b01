import { messageOf } from '../core/index.ts';
import { renderStory, replayAsync, type Scenario, type StackOptions, type Violation } from '../explore/index.ts';
import { type Output, paint } from './output.ts';

/** How much there is to a failure. */
export interface FailureSize {
  /** Operations that begin in it, in the workload and in recoveries. */
  readonly operations: number;
  /** Sectors that were read and had not kept their newest version, or were damaged. */
  readonly deviations: number;
}

export function sizeOf({ history, kept }: Violation): FailureSize {
  return {
    operations: history.filter(({ kind }) => kind === 'begin').length,
    deviations: kept.filter(({ kind, version }) => kind === 'damaged' || version > 0).length,
  };
}

/** The one with the fewest operations, then the fewest deviations, then the fewest cuts: the one to read. */
export function smallestOf(violations: readonly Violation[]): Violation | undefined {
  const costOf = (violation: Violation) => {
    const { operations, deviations } = sizeOf(violation);
    return [operations, deviations, violation.cuts];
  };
  return violations.toSorted((a, b) => {
    const [costA, costB] = [costOf(a), costOf(b)];
    return costA.map((cost, at) => cost - (costB[at] as number)).find((difference) => difference !== 0) ?? 0;
  })[0];
}

/** `2 operations, 1 sector not as it was last written, 1 power cut`. */
export function describeSize(violation: Violation): string {
  const { operations, deviations } = sizeOf(violation);
  const sectors = `${deviations} sector${deviations === 1 ? '' : 's'} not as last written`;
  return `${operations} operation${operations === 1 ? '' : 's'}, ${sectors}, ${violation.cuts} power cut${violation.cuts === 1 ? '' : 's'}`;
}

/** A violation, run again and told line by line; one that can't be repeated says why. */
export async function storyOf(scenario: Scenario, violation: Violation, stack: StackOptions): Promise<string[]> {
  try {
    const story = await replayAsync(scenario, violation.token, stack);
    return renderStory(story, scenario.describe?.bind(scenario));
  } catch (error) {
    return [`it can't be told: ${messageOf(error)}`];
  }
}

const STYLES: readonly (readonly [pattern: RegExp, style: Parameters<typeof paint>[1]])[] = [
  [/^VIOLATION/, 'red'],
  [/^OK/, 'green'],
  [/^POWER CUT/, 'yellow'],
  [/^ +FAULT/, 'yellow'],
  [/^recovery \d/, 'bold'],
  [/^ +sector \d+ keeps its (old|earlier)|^ +physical sector at \d+ is damaged/, 'yellow'],
  [/^ +from byte \d+: newest/, 'green'],
  [/^ +kept /, 'red'],
  [/^ +\(\d+ (more reads|earlier steps)\)| is intact$| keeps its newest version/, 'dim'],
];

/** One line of a story, in its colour. */
export function paintStoryLine(output: Output, line: string): string {
  const style = STYLES.find(([pattern]) => pattern.test(line))?.[1];
  return style === undefined ? line : paint(output, style, line);
}
