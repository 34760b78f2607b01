import { assertInteger, describeValue } from '../../core/index.ts';
import type { OperationKind } from '../../faults/index.ts';

/** When the power is to fail. */
export interface CutSchedule {
  /** At the so manieth matching operation from now on; 1 is the next. Default 1. */
  readonly nth?: number;
  /** Which operations count. Default `any`. */
  readonly of?: OperationKind | 'any';
  /** `before` the operation reaches the disk, or `during` it (default): what it wrote is there, and not durable. */
  readonly when?: 'before' | 'during';
  /** Only operations that touch a sector from this one on; a flush touches none. Default: wherever they are. */
  readonly firstSector?: number;
  /** The last sector that counts. Default `firstSector`. */
  readonly lastSector?: number;
}

const KINDS: readonly string[] = ['any', 'read', 'write', 'flush', 'discard', 'writeZeroes'];

/** Counts operations down to the one at which the power fails. */
export class ScheduledCut {
  readonly schedule: Required<CutSchedule> | Required<Omit<CutSchedule, 'firstSector' | 'lastSector'>>;
  readonly #first: number;
  readonly #last: number;
  #remaining: number;

  /** @throws TypeError, RangeError for a schedule that is none */
  constructor(schedule: CutSchedule) {
    const { nth = 1, of = 'any', when = 'during', firstSector, lastSector = firstSector } = schedule;
    assertInteger(nth, 'nth', 1);
    if (!KINDS.includes(of)) throw new RangeError(`of: expected one of ${KINDS.join(', ')}, got ${describeValue(of)}`);
    if (when !== 'before' && when !== 'during')
      throw new RangeError(`when: expected before or during, got ${describeValue(when)}`);
    if (firstSector === undefined && lastSector !== undefined)
      throw new RangeError('lastSector: it goes with firstSector');
    if (firstSector !== undefined) assertInteger(firstSector, 'firstSector');
    if (lastSector !== undefined) assertInteger(lastSector, 'lastSector', firstSector);
    this.schedule =
      firstSector === undefined || lastSector === undefined
        ? { nth, of, when }
        : { nth, of, when, firstSector, lastSector };
    this.#first = firstSector ?? -1;
    this.#last = lastSector ?? -1;
    this.#remaining = nth;
  }

  /** Matching operations until it comes, that one included. */
  get remaining(): number {
    return this.#remaining;
  }

  /** @returns whether the power fails at this operation */
  counts(kind: OperationKind, sector: number, sectorCount: number): boolean {
    const { of } = this.schedule;
    if (of !== 'any' && of !== kind) return false;
    if (this.#first >= 0 && (sector > this.#last || sector + sectorCount <= this.#first)) return false;
    return --this.#remaining <= 0;
  }
}
