import { crc32, deflateRawSync, inflateRawSync } from 'node:zlib';
import { assertInteger, assertString, type Choices, CodedError, describeValue } from '../../core/index.ts';
import type { Resolution } from '../../faults/index.ts';

/**
 * What a power cut leaves of the writes that were not durable: nothing, everything, a random version of each sector, or
 * what a resolution before has decided, by its token.
 */
export type CutResolution = 'all-lost' | 'all-kept' | { readonly seed: number } | { readonly token: string };

/** What a resolution found. */
export interface CutReport {
  /** Sectors that had more than one possible content. */
  readonly undecidedSectors: number;
  /** Of these, those that do not hold their newest version. */
  readonly lostSectors: number;
  /** Sectors torn inside. */
  readonly tornSectors: number;
  /** Physical sectors that turned to noise. */
  readonly damagedPhysicalSectors: number;
  /** Decides the same again, of the same undecided sectors; undefined where nothing was chosen one by one. */
  readonly token: string | undefined;
}

/** Counts of a report, while it is made. */
export interface CutCounts {
  lostSectors: number;
  tornSectors: number;
  damagedPhysicalSectors: number;
}

/** Adds what became of a sector, or of a physical one. */
export function countResolution(counts: CutCounts, resolution: Resolution): void {
  if (resolution.kind === 'damaged') counts.damagedPhysicalSectors++;
  if (resolution.kind !== 'version') return;
  if (resolution.index > 0) counts.lostSectors++;
  if (resolution.stamp < 0) counts.tornSectors++;
}

/**
 * Checks what came from outside.
 * @throws TypeError, RangeError
 */
export function assertResolution(value: unknown): asserts value is CutResolution {
  if (value === 'all-lost' || value === 'all-kept') return;
  if (typeof value === 'object' && value !== null && 'seed' in value) assertInteger(value.seed, 'seed');
  else if (typeof value === 'object' && value !== null && 'token' in value) assertString(value.token, 'token');
  else throw new TypeError(`outcome: expected all-lost, all-kept, { seed } or { token }, got ${describeValue(value)}`);
}

const PREFIX = 'pcd1.';
/** A token names a version for each undecided sector, and no disk of ours leaves more of them than this. */
const MAX_CHOICES = 2 ** 22;

/** A number that tells sets of undecided sectors apart, so that a token is not applied to another one. */
export function fingerprintOf(sectors: readonly number[], versionCount: (sector: number) => number): number {
  let sum = 0;
  for (const sector of sectors) sum = crc32(`${sector}:${versionCount(sector)} `, sum);
  return sum;
}

/** The choices of a resolution as one word. */
export function encodeResolution(fingerprint: number, choices: readonly number[]): string {
  const bytes = Buffer.alloc(4 + choices.length * 2);
  bytes.writeUInt32BE(fingerprint, 0);
  for (const [i, choice] of choices.entries()) bytes.writeUInt16BE(choice, 4 + i * 2);
  return PREFIX + deflateRawSync(bytes).toString('base64url');
}

/** Repeats the choices of a token. One that was made up must not stop half way: what is no option counts as the last. */
export function recordedChoices(values: readonly number[]): Choices {
  let at = 0;
  return { choose: (options) => (options <= 1 ? 0 : Math.min(values[at++] ?? 0, options - 1)) };
}

/** @throws CodedError EINVAL for what is no token, or one of another cut */
export function decodeResolution(token: string, fingerprint: number): number[] {
  const bytes = unpack(token);
  if (bytes.readUInt32BE(0) !== fingerprint) {
    throw new CodedError('EINVAL', 'token: it belongs to another cut: the undecided sectors are not the same');
  }
  const choices: number[] = [];
  for (let at = 4; at < bytes.length; at += 2) choices.push(bytes.readUInt16BE(at));
  return choices;
}

function unpack(token: string): Buffer {
  try {
    if (token.startsWith(PREFIX)) {
      const packed = Buffer.from(token.slice(PREFIX.length), 'base64url');
      const bytes = inflateRawSync(packed, { maxOutputLength: 4 + MAX_CHOICES * 2 });
      if (bytes.length >= 4 && bytes.length % 2 === 0) return bytes;
    }
  } catch {}
  throw new CodedError('EINVAL', `token: expected ${PREFIX}..., as a resolution gave it, got ${describeValue(token)}`);
}
