import { closeSync, openSync, readSync } from 'node:fs';
import { parse, TomlError } from 'smol-toml';
import { assertString, codeOf, describeValue, messageOf } from '../core/index.ts';
import type { Audit } from './audit.ts';
import type { Authority } from './authority.ts';
import { checkPolicy, type Policy, PolicyError, type PolicyPlace } from './policy.ts';

/** Largest policy file. */
export const MAX_POLICY_FILE_BYTES: number = 256 * 1024;
/** The one version of the file that there is. */
export const POLICY_FILE_VERSION = 1;
/** Deepest nesting: a policy needs three levels. */
const MAX_DEPTH = 8;
/** A statement that goes over more lines than this is found less exactly. */
const MAX_STATEMENT_LINES = 64;

/**
 * Reads a policy from TOML (docs/security/policy.md).
 * @param name of the file, for messages
 * @throws PolicyError EINVAL or E2BIG; its message starts with `name:line: `
 */
export function parsePolicy(text: string, name = 'policy'): Policy {
  assertString(text, 'text');
  if (text.length > MAX_POLICY_FILE_BYTES) throw tooLarge(name);
  const document = parseToml(text, name);
  try {
    const { version, ...policy } = document;
    if (version !== POLICY_FILE_VERSION) {
      throw new PolicyError(
        'EINVAL',
        ['version'],
        `version: expected ${POLICY_FILE_VERSION}, got ${describeValue(version)}: start the file with "version = ${POLICY_FILE_VERSION}"`,
      );
    }
    return checkPolicy({ rules: [], ...policy });
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    const line = lineOf(text, document, error.place);
    throw new PolicyError(error.code, error.place, `${name}:${line}: ${error.message}`, { cause: error });
  }
}

/**
 * Reads a policy file.
 * @throws PolicyError as {@link parsePolicy}, and EINVAL where there is no such file or it can't be read
 */
export function loadPolicy(path: string): Policy {
  assertString(path, 'path');
  let bytes: Uint8Array;
  try {
    bytes = readAtMost(path, MAX_POLICY_FILE_BYTES + 1);
  } catch (error) {
    throw new PolicyError('EINVAL', [], `${path}: can't be read: ${messageOf(error)}`, { cause: error });
  }
  if (bytes.length > MAX_POLICY_FILE_BYTES) throw tooLarge(path);
  return parsePolicy(decode(bytes, path), path);
}

/** How a reload ended. */
export type PolicyReload =
  | { readonly ok: true; readonly rules: number; readonly subjects: number }
  /** The old policy is still in force. */
  | { readonly ok: false; readonly error: Error };

/**
 * Puts the policy of a file in force, as a whole; where the file is no policy, the old one stays. Either way the audit
 * has it.
 */
export function reloadPolicy(authority: Authority, path: string, audit?: Audit): PolicyReload {
  try {
    authority.replace(loadPolicy(path));
    audit?.tell('policy', 'reload', 'OK', path);
    const { rules, subjects } = authority.policy;
    return { ok: true, rules: rules.length, subjects: subjects.length };
  } catch (error) {
    audit?.tell('policy', 'reload', codeOf(error) ?? 'EINVAL', path);
    return { ok: false, error: error instanceof Error ? error : new Error(messageOf(error)) };
  }
}

function parseToml(text: string, name: string): Record<string, unknown> {
  try {
    return parse(text, { maxDepth: MAX_DEPTH });
  } catch (error) {
    const line = error instanceof TomlError ? error.line : 1;
    const what = (messageOf(error).split('\n')[0] as string).replace('Invalid TOML document: ', '');
    throw new PolicyError('EINVAL', [], `${name}:${line}: expected TOML (https://toml.io), got: ${what}`, {
      cause: error,
    });
  }
}

/**
 * The line, from 1 on, of the statement that gives what stands at `place`, or of the nearest thing around it. Values of
 * a parsed document have no positions: this looks for the first line up to which the file has the value.
 */
function lineOf(text: string, document: unknown, place: PolicyPlace): number {
  let known = [...place];
  while (known.length > 0 && !hasPlace(document, known)) known = known.slice(0, -1);
  if (known.length === 0) return 1;
  const lines = text.split('\n');
  let [low, high] = [1, lines.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isGivenBy(lines, middle, known)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Whether the first `count` lines, and what it takes to end the statement there, have something at `place`. */
function isGivenBy(lines: readonly string[], count: number, place: PolicyPlace): boolean {
  for (let end = count; end <= Math.min(count + MAX_STATEMENT_LINES, lines.length); end++) {
    try {
      return hasPlace(parse(lines.slice(0, end).join('\n'), { maxDepth: MAX_DEPTH }), place);
    } catch {
      // In the middle of a statement: a line more.
    }
  }
  return false;
}

function hasPlace(value: unknown, place: PolicyPlace): boolean {
  let at = value;
  for (const step of place) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return false;
    at = (at as Record<string | number, unknown>)[step];
  }
  return true;
}

function decode(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new PolicyError('EINVAL', [], `${path}: expected UTF-8: save it as that`, { cause: error });
  }
}

/** The file, or its start: a device or a pipe has no size to ask for beforehand. */
function readAtMost(path: string, capBytes: number): Uint8Array {
  const file = openSync(path, 'r');
  try {
    const bytes = new Uint8Array(capBytes);
    let length = 0;
    for (;;) {
      const read = readSync(file, bytes, length, capBytes - length, null);
      length += read;
      if (read === 0 || length === capBytes) return bytes.subarray(0, length);
    }
  } finally {
    closeSync(file);
  }
}

function tooLarge(name: string): PolicyError {
  return new PolicyError(
    'E2BIG',
    [],
    `${name}: expected at most ${MAX_POLICY_FILE_BYTES} bytes: one rule can serve many subjects with {id}`,
  );
}
