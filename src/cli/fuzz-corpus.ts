import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { CodedError, messageOf, toHex } from '../core/index.ts';
import { sha256 } from '../envelope/index.ts';
import { type FuzzCase, type FuzzFailure, type FuzzOutcome, fuzzCaseOf } from '../testing/index.ts';
import { misuse } from './scenarios.ts';

/** A case that found new ways through recovery, and which. */
interface KeptCase {
  readonly case: FuzzCase;
  readonly paths: readonly string[];
}

/** A failure of an earlier session. */
export interface KeptFailure {
  readonly case: FuzzCase;
  readonly message: string;
  readonly file: string;
}

/** More than any corpus entry takes: the case itself is capped again when it is read. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

/** What fuzzing has found, one JSON file each: `paths/` for what takes recovery a new way, `failures/` for what fails. */
export class CorpusFolder {
  readonly cases: readonly KeptCase[];
  readonly failures: readonly KeptFailure[];
  readonly #folder: string;

  /** @throws CodedError EINVAL naming a file that is no entry of a corpus */
  constructor(folder: string) {
    this.#folder = folder;
    if (existsSync(folder) && !statSync(folder).isDirectory()) throw misuse(`--corpus: ${folder} is not a folder`);
    this.cases = filesIn(join(folder, 'paths')).map((file) => {
      const { case: theCase, paths } = parseFile(file);
      if (!Array.isArray(paths) || paths.some((path) => typeof path !== 'string')) {
        throw misuse(`--corpus: ${file}: expected "paths", a list of texts`);
      }
      return { case: theCase, paths: paths as string[] };
    });
    this.failures = filesIn(join(folder, 'failures')).map((file) => {
      const { case: theCase, message } = parseFile(file);
      return { case: theCase, message: String(message), file };
    });
  }

  keepCase(outcome: FuzzOutcome): void {
    this.#write('paths', outcome.case, { case: outcome.case, paths: outcome.newPaths });
  }

  /** @returns the file that holds it */
  keepFailure(failure: FuzzFailure): string {
    const { case: theCase, message, token } = failure;
    return this.#write('failures', theCase, { case: theCase, message, token });
  }

  /** Under a name made from the case; a name that is there holds the same case. */
  #write(kind: 'paths' | 'failures', theCase: FuzzCase, entry: unknown): string {
    const folder = join(this.#folder, kind);
    const name = toHex(sha256(new TextEncoder().encode(JSON.stringify(theCase)))).slice(0, 16);
    const file = join(folder, `${name}.json`);
    try {
      mkdirSync(folder, { recursive: true });
      // A session that is ended in the middle leaves no half entry; two sessions may share a folder.
      const temporary = `${file}.${process.pid}.tmp`;
      writeFileSync(temporary, `${JSON.stringify(entry, undefined, 1)}\n`);
      renameSync(temporary, file);
    } catch (error) {
      throw misuse(`--corpus: ${file} can't be written: ${messageOf(error)}`, error);
    }
    return file;
  }
}

function filesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    throw misuse(`--corpus: ${folder} can't be listed: ${messageOf(error)}`, error);
  }
  return names
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => join(folder, name));
}

function parseFile(file: string): { case: FuzzCase; paths?: unknown; message?: unknown } {
  try {
    const stats = statSync(file);
    if (!stats.isFile()) throw new CodedError('EINVAL', 'it is no regular file');
    if (stats.size > MAX_FILE_BYTES) throw new CodedError('EINVAL', `more than ${MAX_FILE_BYTES} bytes`);
    const entry = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown> | null;
    return { ...entry, case: fuzzCaseOf(entry?.['case']) };
  } catch (error) {
    throw misuse(`--corpus: ${file} is no entry of a corpus: ${messageOf(error)}: mend or delete it`, error);
  }
}
