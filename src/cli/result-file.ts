import { closeSync, existsSync, ftruncateSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { crc32 } from '@node-rs/crc32';
import { codeOf, messageOf } from '../core/index.ts';
import type { Unit } from '../explore/index.ts';
import { commitOf, type ExploreFlags } from './explore-flags.ts';
import { misuse } from './scenarios.ts';

/** Of the file's first line; another version is refused. */
const VERSION = 3;
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
 * soon as it is done. Each line has the CRC-32 of what comes before it: a damaged line is told, not believed. Only the
 * last line may have been cut off: its unit is run again.
 */
export class ResultFile {
  readonly header: ResultHeader;
  /** Those that the file had when it was opened. */
  readonly units: readonly Unit[];
  readonly #path: string;
  /** Of its whole lines. */
  readonly #wholeBytes: number;
  #fd: number | undefined;

  private constructor(path: string, header: ResultHeader, units: readonly Unit[], wholeBytes: number) {
    this.#path = path;
    this.header = header;
    this.units = units;
    this.#wholeBytes = wholeBytes;
  }

  /** Starts a file. @throws CodedError EINVAL where there is one of that name already, or no room */
  static create(path: string, scenario: string, flags: ExploreFlags): ResultFile {
    const header = headerOf(scenario, flags);
    const file = new ResultFile(path, header, [], 0);
    file.#fd = openOr(path, 'wx', 'name another file, or go on with this one: --resume');
    try {
      file.#write(header);
    } catch (error) {
      // Nobody could go on with it.
      file.close();
      rmSync(path, { force: true });
      throw error;
    }
    return file;
  }

  /** Goes on with a file, or starts it where there is none. @throws CodedError EINVAL for a file of something else */
  static resume(path: string, scenario: string, flags: ExploreFlags): ResultFile {
    if (!existsSync(path)) return ResultFile.create(path, scenario, flags);
    const file = ResultFile.read(path);
    const difference = differenceOf(file.header, headerOf(scenario, flags), true);
    if (difference !== undefined) throw misuse(`${path}: it is of another exploration: ${difference}`);
    file.#fd = openOr(path, 'a', 'make it writable');
    ftruncateSync(file.#fd, file.#wholeBytes);
    return file;
  }

  /** Reads a file. @throws CodedError EINVAL, one line, for what is none or is damaged */
  static read(path: string): ResultFile {
    const text = readText(path);
    const wholeText = text.slice(0, text.lastIndexOf('\n') + 1);
    const [header, ...units] = wholeText.split('\n').slice(0, -1).map(parseLine);
    if (!isHeader(header)) throw misuse(`${path}: expected a file that explore --out of this version wrote`);
    const wrong = units.findIndex((unit) => !isUnit(unit));
    if (wrong >= 0) {
      throw misuse(`${path}: line ${wrong + 2} is not what was written: the file is damaged: explore that part again`);
    }
    return new ResultFile(path, header, units as Unit[], Buffer.byteLength(wholeText));
  }

  append(unit: Unit): void {
    if (this.#fd !== undefined) this.#write(unit);
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #write(value: object): void {
    const bytes = Buffer.from(`${lineOf(value)}\n`);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd as number, bytes, done);
    } catch (error) {
      throw misuse(
        `${this.#path}: it can't be written: ${messageOf(error)}: make room, then go on with --resume`,
        error,
      );
    }
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

/** A value as a line, with a checksum as its last property. */
function lineOf(value: object): string {
  return sealed(JSON.stringify(value, (_key, part) => (typeof part === 'bigint' ? `${part}n` : part)));
}

function sealed(json: string): string {
  return `${json.slice(0, -1)},"crc32":"${crc32(json).toString(16).padStart(8, '0')}"}`;
}

/** The value of a line; undefined for one that is not as it was written. */
function parseLine(line: string): unknown {
  const json = line.replace(/,"crc32":"[0-9a-f]{8}"\}$/, '}');
  if (line.length > MAX_LINE_CHARS || line !== sealed(json)) return undefined;
  try {
    return JSON.parse(json, (_key, value: unknown) =>
      typeof value === 'string' && /^\d{1,4096}n$/.test(value) ? BigInt(value.slice(0, -1)) : value,
    );
  } catch {
    return undefined;
  }
}

/** @throws CodedError EINVAL, one line: a pipe or a device would never end */
function readText(path: string): string {
  try {
    if (!statSync(path).isFile()) throw misuse('it is no regular file');
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw misuse(`${path}: it can't be read (${messageOf(error)}): expected a file that explore --out wrote`, error);
  }
}

function isHeader(value: unknown): value is ResultHeader {
  const header = value as Partial<ResultHeader> | null | undefined;
  const flags: unknown = header?.flags;
  return (
    header?.powercut === VERSION && typeof header.scenario === 'string' && typeof flags === 'object' && flags !== null
  );
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
