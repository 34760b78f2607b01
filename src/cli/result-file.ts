import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { codeOf, messageOf } from '../core/index.ts';
import type { Unit } from '../explore/index.ts';
import { commitOf, type ExploreFlags } from './explore-flags.ts';
import { misuse } from './scenarios.ts';

/** Of the file's first line; another version is refused. */
const VERSION = 2;
/** No line of a file that we write is longer. */
const MAX_LINE_CHARS = 16 * 1024 * 1024;

/** What is explored: two files with equal headers, but for the shard, are parts of one exploration. */
export interface ResultHeader {
  readonly powercut: number;
  readonly scenario: string;
  readonly flags: ExploreFlags;
}

/**
 * The units of an exploration in a file: a line of JSON that says what is explored, then one for each unit, written as
 * soon as it is done. A last line that was cut off is ignored: its unit is run again.
 */
export class ResultFile {
  readonly header: ResultHeader;
  /** Those that the file had when it was opened. */
  readonly units: readonly Unit[];
  #fd: number | undefined;

  private constructor(header: ResultHeader, units: readonly Unit[], fd: number | undefined) {
    this.header = header;
    this.units = units;
    this.#fd = fd;
  }

  /** Starts a file. @throws CodedError EINVAL where there is one of that name already */
  static create(path: string, scenario: string, flags: ExploreFlags): ResultFile {
    const header = headerOf(scenario, flags);
    const fd = openOr(path, 'wx', 'name another file, or go on with this one: --resume');
    writeSync(fd, `${JSON.stringify(header)}\n`);
    return new ResultFile(header, [], fd);
  }

  /** Goes on with a file, or starts it where there is none. @throws CodedError EINVAL for a file of something else */
  static resume(path: string, scenario: string, flags: ExploreFlags): ResultFile {
    if (!existsSync(path)) return ResultFile.create(path, scenario, flags);
    const { header, units } = ResultFile.read(path);
    const wanted = headerOf(scenario, flags);
    const difference = differenceOf(header, wanted, true);
    if (difference !== undefined) throw misuse(`${path}: it is of another exploration: ${difference}`);
    const fd = openOr(path, 'a', 'make it writable');
    if (!readFileSync(path, 'utf8').endsWith('\n')) writeSync(fd, '\n');
    return new ResultFile(header, units, fd);
  }

  /** Reads a file. @throws CodedError EINVAL, one line, for what is none */
  static read(path: string): ResultFile {
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      throw misuse(`${path}: it can't be read (${messageOf(error)}): expected a file that explore --out wrote`, error);
    }
    const [first = '', ...lines] = text.split('\n');
    const header = parseLine(first) as ResultHeader | undefined;
    if (header?.powercut !== VERSION || typeof header.scenario !== 'string' || typeof header.flags !== 'object') {
      throw misuse(`${path}: expected a file that explore --out of this version wrote`);
    }
    const units = lines.map(parseLine).filter((line) => line !== undefined);
    const wrong = units.findIndex((unit) => !isUnit(unit));
    if (wrong >= 0) throw misuse(`${path}: line ${wrong + 2} is no unit of an exploration: the file is damaged`);
    return new ResultFile(header, units as Unit[], undefined);
  }

  append(unit: Unit): void {
    if (this.#fd === undefined) return;
    const line = JSON.stringify(unit, (_key, value) => (typeof value === 'bigint' ? `${value}n` : value));
    writeSync(this.#fd, `${line}\n`);
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** In what two explorations differ, in words; undefined where they are the same, or shards of the same. */
export function differenceOf(found: ResultHeader, wanted: ResultHeader, withShard: boolean): string | undefined {
  if (found.scenario !== wanted.scenario) return `scenario ${found.scenario}, not ${wanted.scenario}`;
  const names = new Set([...Object.keys(found.flags), ...Object.keys(wanted.flags)]) as Set<keyof ExploreFlags>;
  for (const name of names) {
    if (name === 'shard' && !withShard) continue;
    const [is, was] = [JSON.stringify(wanted.flags[name]), JSON.stringify(found.flags[name])];
    if (is !== was) return `${name} is ${was ?? 'not given'}, not ${is ?? 'left out'}`;
  }
  return undefined;
}

/** Flags that make the result what it is; how and how long it is run are not among them. */
function headerOf(scenario: string, flags: ExploreFlags): ResultHeader {
  const { depth, profile, strategy, through, seed, runs, bound, maxViolations, size, shard, plain } = flags;
  const { faults, maxFaults } = flags;
  const kept = { depth, profile, strategy, through, seed, runs, bound, maxViolations, size, shard, plain };
  const all = { ...kept, faults, maxFaults, commit: commitOf(flags), break: flags.break, workers: 1 };
  return { powercut: VERSION, scenario, flags: JSON.parse(JSON.stringify(all)) as ExploreFlags };
}

function openOr(path: string, mode: string, mend: string): number {
  try {
    return openSync(path, mode);
  } catch (error) {
    const what = codeOf(error) === 'EEXIST' ? 'there is a file already' : messageOf(error);
    throw misuse(`${path}: ${what}: ${mend}`, error);
  }
}

/** The value of a line; undefined for one that is empty or was cut off. */
function parseLine(line: string): unknown {
  if (line === '' || line.length > MAX_LINE_CHARS) return undefined;
  try {
    return JSON.parse(line, (_key, value: unknown) =>
      typeof value === 'string' && /^\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value,
    );
  } catch {
    return undefined;
  }
}

function isUnit(value: unknown): value is Unit {
  if (typeof value !== 'object' || value === null) return false;
  const unit = value as Record<keyof Unit, unknown>;
  const counts = [unit.point, unit.fixed, unit.recoveries, unit.known, unit.rechecks, unit.violating];
  return (
    counts.every((count) => Number.isSafeInteger(count) && (count as number) >= 0) &&
    typeof unit.share === 'number' &&
    isListOf(unit.plan, Number.isSafeInteger) &&
    isListOf(unit.start, Number.isSafeInteger) &&
    isListOf(unit.imagesDeeper, (images) => typeof images === 'bigint') &&
    isListOf(unit.cases, (levels) => isListOf(levels, isLevel)) &&
    isListOf(unit.rest, (rest) => isRest(rest))
  );
}

function isListOf(value: unknown, check: (one: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(check);
}

function isLevel(value: unknown): boolean {
  const level = value as { choices?: unknown; cut?: unknown } | null;
  return isListOf(level?.choices, Number.isSafeInteger) && Number.isSafeInteger(level?.cut);
}

function isRest(value: unknown): boolean {
  const rest = value as { start?: unknown; fixed?: unknown; share?: unknown } | null;
  return (
    isListOf(rest?.start, Number.isSafeInteger) && Number.isSafeInteger(rest?.fixed) && typeof rest?.share === 'number'
  );
}
