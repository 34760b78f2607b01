import {
  closeSync,
  linkSync,
  lstatSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
} from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { systemFileIo } from '../blockdev/index.ts';
import { codeOf, messageOf } from '../core/index.ts';
import { misuse } from './scenarios.ts';

/** What a file system says that knows no hard links. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

export interface TargetOptions {
  /** Whether a file of that name may be replaced. */
  readonly replace: boolean;
  /** What it is made from: must not be the same file. */
  readonly source: string;
}

/**
 * Whether something new may be put at `path`.
 * @throws CodedError EINVAL, one line: there is a file and it must not be replaced, it is no regular file, or it is the
 *   source itself
 */
export function checkTarget(path: string, { replace, source }: TargetOptions): void {
  const stats = statsOf(path, lstatSync);
  if (stats === undefined) return;
  if (!replace) throw misuse(`${path} exists: name another, or give --replace`);
  if (isSameFile(path, source)) throw misuse(`${path} is what it is made from: name another`);
  if (!stats.isFile()) throw misuse(`${path} is no regular file, and is not replaced: name another`);
}

/**
 * Makes a file in a folder of its own beside `path`, where nobody else puts anything, and moves it to `path` once `make`
 * has made it whole. A program that is killed leaves `path` as it was, and that folder.
 * @param replace whether an older file of that name gives way; otherwise it stays, and CodedError EINVAL says so
 * @throws what `make` throws, after what it had made was removed
 */
export function putInPlace<T>(path: string, replace: boolean, make: (unfinished: string) => T): T {
  const folder = mkdtempSync(`${path}.part-`);
  try {
    const unfinished = join(folder, basename(path));
    const made = make(unfinished);
    if (replace) renameSync(unfinished, path);
    else linkOrRename(unfinished, path);
    systemFileIo.syncParent(path);
    return made;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Whether two names lead to one file, or will once it is made. */
export function isSameFile(one: string, other: string): boolean {
  if (resolve(one) === resolve(other)) return true;
  const [a, b] = [statsOf(one, statSync), statsOf(other, statSync)];
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino;
}

/**
 * Whether a report may be written to `path` when all is done: said before anything is run.
 * @param inputs files that it must not write over, by what they are
 * @throws CodedError EINVAL, one line
 */
export function checkReport(option: string, path: string, inputs: Readonly<Record<string, string | undefined>>): void {
  for (const [what, input] of Object.entries(inputs)) {
    if (input !== undefined && isSameFile(path, input))
      throw misuse(`${option}: ${path} is ${what}: name another file`);
  }
  const existed = statsOf(path, statSync) !== undefined;
  try {
    // To append: what an earlier run wrote stays until there is something new.
    closeSync(openSync(path, 'a'));
  } catch (error) {
    throw misuse(`${option}: ${path} can't be written: ${messageOf(error)}`, error);
  }
  if (!existed) rmSync(path, { force: true });
}

/** Unlike a rename, a link replaces nothing that has come meanwhile. */
function linkOrRename(unfinished: string, path: string): void {
  try {
    linkSync(unfinished, path);
  } catch (error) {
    const isThere = statsOf(path, lstatSync) !== undefined;
    if (isThere) throw misuse(`${path}: another program has made it meanwhile: name another`, error);
    if (!NO_LINKS.includes(codeOf(error) ?? '')) throw error;
    renameSync(unfinished, path);
  }
}

function statsOf(path: string, stat: (path: string) => Stats): Stats | undefined {
  try {
    return stat(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined;
    throw misuse(`${path}: it can't be looked at (${codeOf(error)})`, error);
  }
}
