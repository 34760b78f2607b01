import { assertInteger, describeValue } from '../../core/index.ts';
import { type MediaFaultKind, mediaFaultKinds, type OperationKind } from '../../faults/index.ts';

/** What a served medium does wrong, on command: the kinds of docs/disk-model.md. docs/serve.md says what clients see. */
export type ServedFaultKind = MediaFaultKind;

/** A fault as it is asked for. */
export interface ServedFault {
  readonly kind: ServedFaultKind;
  /** Only what touches a sector from this one on. Default: everything. */
  readonly firstSector?: number;
  /** The last sector that counts. Default `firstSector`. */
  readonly lastSector?: number;
  /** From the nth matching operation on, 1 being the next. Default 1. */
  readonly nth?: number;
  /** How many operations it concerns. Default: until it is cleared. */
  readonly times?: number;
  /** Of `hung-request` and `latency-spike`: which operations. Default `any`. */
  readonly of?: OperationKind | 'any';
  /** Of `latency-spike`: milliseconds, beside those of the disk's latency. */
  readonly delayMs?: number;
  /** Of `bit-rot`: which bit of the sector. Default 0. */
  readonly bit?: number;
  /** Of `misdirected-read` and `misdirected-write`: where they go. Default: one bit of the address is wrong. */
  readonly toSector?: number;
  /** Of `write-error`: how many sectors are written all the same, the first ones. Default 0. */
  readonly writtenSectors?: number;
}

type Option = 'of' | 'delayMs' | 'bit' | 'toSector' | 'writtenSectors';

/** What a kind takes beside `nth` and `times`. */
interface Traits {
  /** It has to be told where, and each of so many sectors is known by itself; a medium wrong throughout is no use. */
  readonly maxSectors?: number;
  /** A flush has no place. */
  readonly hasNoSectors?: true;
  readonly options?: readonly Option[];
}

const TRAITS: Readonly<Record<ServedFaultKind, Traits>> = {
  'bit-rot': { maxSectors: 65_536, options: ['bit'] },
  'latent-error': { maxSectors: 65_536 },
  // What each of them held before is kept.
  'stale-read': { maxSectors: 4096 },
  'misdirected-read': { options: ['toSector'] },
  'misdirected-write': { options: ['toSector'] },
  'lost-write': {},
  'lying-flush': { hasNoSectors: true },
  'read-error': {},
  'write-error': { options: ['writtenSectors'] },
  'flush-error': { hasNoSectors: true },
  'latency-spike': { options: ['of', 'delayMs'] },
  'hung-request': { options: ['of'] },
};

const OPTIONS: readonly Option[] = ['of', 'delayMs', 'bit', 'toSector', 'writtenSectors'];
const OPERATIONS: readonly string[] = ['any', 'read', 'write', 'flush', 'discard', 'writeZeroes'];
const MAX_BIT = 4096 * 8 - 1;
/** The longest that a reply may be held back. */
export const MAX_DELAY_MS = 3_600_000;

/** @throws RangeError for what is no kind of fault */
export function assertFaultKind(kind: unknown): asserts kind is ServedFaultKind {
  if (mediaFaultKinds.includes(kind as ServedFaultKind)) return;
  throw new RangeError(`kind: expected one of ${mediaFaultKinds.join(', ')}, got ${describeValue(kind)}`);
}

/**
 * Checks what came from outside.
 * @throws TypeError, RangeError for what is no fault of a disk of so many sectors
 */
export function assertServedFault(fault: ServedFault, sectorCount: number): void {
  const { kind, nth, times, of, delayMs, bit, toSector, writtenSectors } = fault;
  assertFaultKind(kind);
  if (nth !== undefined) assertInteger(nth, 'nth', 1);
  if (times !== undefined) assertInteger(times, 'times', 1);
  assertPlace(fault);
  for (const option of OPTIONS) {
    if (fault[option] === undefined || TRAITS[kind].options?.includes(option)) continue;
    const kinds = mediaFaultKinds.filter((each) => TRAITS[each].options?.includes(option));
    throw new RangeError(`${option}: it goes with ${kinds.join(' and ')}`);
  }
  if (of !== undefined && !OPERATIONS.includes(of))
    throw new RangeError(`of: expected one of ${OPERATIONS.join(', ')}, got ${describeValue(of)}`);
  if (bit !== undefined) assertInteger(bit, 'bit', 0, MAX_BIT);
  if (toSector !== undefined) assertInteger(toSector, 'toSector', 0, sectorCount - 1);
  if (writtenSectors !== undefined) assertInteger(writtenSectors, 'writtenSectors');
  if (kind !== 'latency-spike') return;
  if (typeof delayMs !== 'number') throw new TypeError(`delayMs: expected milliseconds, got ${describeValue(delayMs)}`);
  if (!(delayMs > 0 && delayMs <= MAX_DELAY_MS))
    throw new RangeError(`delayMs: expected up to ${MAX_DELAY_MS} ms, got ${delayMs}`);
}

function assertPlace({ kind, firstSector, lastSector, of }: ServedFault): void {
  const { maxSectors, hasNoSectors } = TRAITS[kind];
  if (firstSector !== undefined) assertInteger(firstSector, 'firstSector');
  if (lastSector !== undefined) {
    if (firstSector === undefined) throw new RangeError('lastSector: it goes with firstSector');
    assertInteger(lastSector, 'lastSector', firstSector);
  }
  if ((hasNoSectors || of === 'flush') && firstSector !== undefined)
    throw new RangeError(`firstSector: a flush has no place, so ${kind} takes none`);
  if (maxSectors === undefined) return;
  if (firstSector === undefined) throw new RangeError(`firstSector: ${kind} needs to know where`);
  assertInteger((lastSector ?? firstSector) - firstSector + 1, 'sectors', 1, maxSectors);
}
