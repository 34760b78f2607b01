import { InvalidArgumentError } from 'commander';
import type { ExploreOptions, Shard, StrategyName } from '../explore/index.ts';
import type { MediaFaultKind, ProfileName } from '../faults/index.ts';
import type { CommitMode } from '../statefs/index.ts';
import { misuse, tokenPath } from './scenarios.ts';
import type { Through } from './stack.ts';

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
  readonly faults?: readonly MediaFaultKind[];
  readonly maxFaults?: number;
  readonly time?: number;
  readonly maxRecoveries?: number;
  readonly maxViolations?: number;
  readonly size?: number;
  /** Undefined where it is not wanted, as in files that were written without it. */
  readonly plain?: boolean;
  readonly workers: number;
  readonly shard?: Shard;
  readonly out?: string;
  readonly resume?: string;
  readonly junit?: string;
  readonly break?: string;
  readonly requireComplete?: boolean;
  readonly all?: boolean;
  readonly json?: boolean;
}

/** `2/3`: the second of three. */
export function parseShard(text: string): Shard {
  const match = /^(\d{1,6})\/(\d{1,6})$/.exec(text);
  const [number, count] = [Number(match?.[1]), Number(match?.[2])];
  if (number >= 1 && number <= count) return { index: number - 1, count };
  throw new InvalidArgumentError(`expected a shard such as 2/3, the second of three, got ${JSON.stringify(text)}`);
}

/** How the store commits, said or implied. */
export function commitOf(flags: ExploreFlags): CommitMode {
  return flags.commit ?? (flags.break === 'temp-flush' ? 'ordered' : 'checksummed');
}

/** @throws CodedError EINVAL for options that do not go together */
export function checkTogether(flags: ExploreFlags): void {
  const { strategy } = flags;
  if (flags.bound !== undefined && strategy !== 'bounded') throw misuse('--bound: it goes with --strategy bounded');
  if (flags.runs !== undefined && strategy !== 'random') throw misuse('--runs: it goes with --strategy random');
  if (flags.seed !== undefined && strategy !== 'random') throw misuse('--seed: it goes with --strategy random');
  if (flags.out !== undefined && flags.resume !== undefined) {
    throw misuse('--out: with --resume the results go on in the file of that');
  }
  if (flags.maxFaults !== undefined && flags.faults === undefined) throw misuse('--max-faults: it goes with --faults');
  if (flags.break === 'temp-flush' && flags.commit === 'checksummed') {
    throw misuse('--break temp-flush: a checksummed commit has no such flush; use --commit ordered');
  }
}

/** What the flags say about the exploration itself. */
export function exploreOptions(flags: ExploreFlags): ExploreOptions {
  const options: Record<string, unknown> = { depth: flags.depth, profile: flags.profile, strategy: flags.strategy };
  const optional = { seed: flags.seed, runs: flags.runs, bound: flags.bound, timeMs: flags.time };
  const limits = { maxRecoveries: flags.maxRecoveries, maxViolations: flags.maxViolations, shard: flags.shard };
  for (const [key, value] of Object.entries({ ...optional, ...limits })) if (value !== undefined) options[key] = value;
  if (flags.plain === true) options['plain'] = true;
  if (flags.faults !== undefined) options['media'] = { kinds: flags.faults, maxFaults: flags.maxFaults ?? 1 };
  return options as ExploreOptions;
}

/** What a token must say to find the scenario again. */
export function settingsOf(name: string, flags: ExploreFlags): Record<string, string> {
  const settings: Record<string, string> = { commit: commitOf(flags), through: flags.through };
  if (flags.size !== undefined) settings['size'] = String(flags.size);
  if (flags.break !== undefined) settings['break'] = flags.break;
  const file = tokenPath(name);
  if (file !== undefined) settings['file'] = file;
  return settings;
}
