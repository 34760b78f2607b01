import { assertInteger, CodedError, DeviceError, describeValue } from '../../core/index.ts';

/**
 * What a served medium does wrong, on command.
 * - `read-error`, `write-error`, `flush-error`: EIO; nothing is written, nothing becomes durable.
 * - `latent-error`: a sector can't be read, EIO, until it is rewritten.
 * - `bit-rot`: a bit of a sector is flipped, until it is rewritten.
 * - `lost-write`: a write succeeds, and nothing is written.
 * - `lying-flush`: a flush succeeds and makes nothing durable; nor does a FUA write.
 */
export type ServedFaultKind =
  | 'read-error'
  | 'write-error'
  | 'flush-error'
  | 'latent-error'
  | 'bit-rot'
  | 'lost-write'
  | 'lying-flush';

const KINDS: readonly ServedFaultKind[] = [
  'read-error',
  'write-error',
  'flush-error',
  'latent-error',
  'bit-rot',
  'lost-write',
  'lying-flush',
];

/** Kinds of operations as a whole, in the order of `KINDS` those of sectors being the other ones. */
const WITHOUT_SECTORS: readonly ServedFaultKind[] = ['flush-error', 'lying-flush'];
/** Kinds that need to know where: a medium that is rotten throughout is no use to anybody. */
const NEED_SECTORS: readonly ServedFaultKind[] = ['latent-error', 'bit-rot'];

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
  /** For `bit-rot`: which bit of the sector. Default 0. */
  readonly bit?: number;
}

/** Sectors that one fault may spoil: each is known by itself until it is rewritten. */
const MAX_SPOILED_SECTORS = 65_536;
const MAX_RULES = 64;

/** A fault that is at work, or waits for its operation. */
class Rule {
  readonly fault: ServedFault;
  readonly first: number;
  readonly last: number;
  /** Of `latent-error` and `bit-rot`: sectors that have not been rewritten. */
  readonly spoiled: Set<number> | undefined;
  #toSkip: number;
  #left: number;

  constructor(fault: ServedFault) {
    this.fault = fault;
    this.first = fault.firstSector ?? 0;
    this.last = fault.lastSector ?? fault.firstSector ?? Number.POSITIVE_INFINITY;
    this.#toSkip = (fault.nth ?? 1) - 1;
    this.#left = fault.times ?? Number.POSITIVE_INFINITY;
    if (!NEED_SECTORS.includes(fault.kind)) return;
    this.spoiled = new Set(Array.from({ length: this.last - this.first + 1 }, (_, i) => this.first + i));
  }

  touches(sector: number, sectorCount: number): boolean {
    return sector <= this.last && sector + sectorCount > this.first;
  }

  /** Counts a matching operation. @returns whether it is concerned */
  fires(): boolean {
    if (this.#toSkip > 0) {
      this.#toSkip--;
      return false;
    }
    if (this.#left === 0) return false;
    this.#left--;
    return true;
  }
}

/** The faults that a served disk is asked for, and how often each kind fired. */
export class FaultRules {
  readonly counts: Record<ServedFaultKind, number> = {
    'read-error': 0,
    'write-error': 0,
    'flush-error': 0,
    'latent-error': 0,
    'bit-rot': 0,
    'lost-write': 0,
    'lying-flush': 0,
  };
  #rules: Rule[] = [];

  /** Whether there is anything to ask: the disk's fast path. */
  get none(): boolean {
    return this.#rules.length === 0;
  }

  get all(): readonly ServedFault[] {
    return this.#rules.map(({ fault }) => fault);
  }

  /** @throws TypeError, RangeError for what is no fault; CodedError E2BIG for too many */
  add(fault: ServedFault): void {
    check(fault);
    if (this.#rules.length >= MAX_RULES)
      throw new CodedError('E2BIG', `fault: there are ${MAX_RULES} already: clear some`);
    this.#rules.push(new Rule(fault));
  }

  /** Takes all back, or those of a kind. What is rotten reads as it should again. @returns how many there were */
  clear(kind?: ServedFaultKind): number {
    if (kind !== undefined) checkKind(kind);
    const before = this.#rules.length;
    this.#rules = kind === undefined ? [] : this.#rules.filter(({ fault }) => fault.kind !== kind);
    return before - this.#rules.length;
  }

  /** To be asked before a read. @throws DeviceError EIO */
  beforeRead(sector: number, sectorCount: number): void {
    this.#failIf('read-error', sector, sectorCount);
    for (const rule of this.#of('latent-error', sector, sectorCount)) {
      const bad = firstSpoiled(rule, sector, sectorCount);
      if (bad === undefined || !rule.fires()) continue;
      this.counts['latent-error']++;
      throw new DeviceError('EIO', `latent-error: sector ${bad} can't be read until it is rewritten`);
    }
  }

  /** Lets rotten bits show in what was read. */
  afterRead(sector: number, target: Uint8Array, sectorBytes: number): void {
    const sectorCount = target.length / sectorBytes;
    for (const rule of this.#of('bit-rot', sector, sectorCount)) {
      if (firstSpoiled(rule, sector, sectorCount) === undefined || !rule.fires()) continue;
      this.counts['bit-rot']++;
      const bit = (rule.fault.bit ?? 0) % (sectorBytes * 8);
      for (let i = 0; i < sectorCount; i++) {
        if (rule.spoiled?.has(sector + i)) target[i * sectorBytes + (bit >>> 3)]! ^= 1 << (bit & 7);
      }
    }
  }

  /**
   * To be asked before a write, a discard, or zeros.
   * @returns whether it is to be lost
   * @throws DeviceError EIO
   */
  beforeWrite(sector: number, sectorCount: number): boolean {
    this.#failIf('write-error', sector, sectorCount);
    for (const rule of this.#of('lost-write', sector, sectorCount)) {
      if (!rule.fires()) continue;
      this.counts['lost-write']++;
      return true;
    }
    for (const { spoiled } of this.#rules) {
      if (spoiled === undefined || spoiled.size === 0) continue;
      for (let i = 0; i < sectorCount; i++) spoiled.delete(sector + i);
    }
    return false;
  }

  /**
   * To be asked before a flush, and whether a FUA write is to be durable.
   * @returns whether it is to be a lie
   * @throws DeviceError EIO
   */
  beforeFlush(): boolean {
    this.#failIf('flush-error', 0, 1);
    for (const rule of this.#of('lying-flush', 0, 1)) {
      if (!rule.fires()) continue;
      this.counts['lying-flush']++;
      return true;
    }
    return false;
  }

  /** Whether FUA means nothing now. Counts nothing: it is the write's flag, not an operation. */
  get liesAboutFua(): boolean {
    return this.#rules.some(({ fault }) => fault.kind === 'lying-flush');
  }

  #failIf(kind: ServedFaultKind, sector: number, sectorCount: number): void {
    for (const rule of this.#of(kind, sector, sectorCount)) {
      if (!rule.fires()) continue;
      this.counts[kind]++;
      throw new DeviceError('EIO', `${kind}: as it was asked for`);
    }
  }

  #of(kind: ServedFaultKind, sector: number, sectorCount: number): Rule[] {
    return this.#rules.filter((rule) => rule.fault.kind === kind && rule.touches(sector, sectorCount));
  }
}

function firstSpoiled(rule: Rule, sector: number, sectorCount: number): number | undefined {
  for (let i = sector; i < sector + sectorCount; i++) if (rule.spoiled?.has(i)) return i;
  return undefined;
}

function checkKind(kind: unknown): asserts kind is ServedFaultKind {
  if (KINDS.includes(kind as ServedFaultKind)) return;
  throw new RangeError(`kind: expected one of ${KINDS.join(', ')}, got ${describeValue(kind)}`);
}

function check({ kind, firstSector, lastSector, nth, times, bit }: ServedFault): void {
  checkKind(kind);
  if (firstSector !== undefined) assertInteger(firstSector, 'firstSector');
  if (lastSector !== undefined) {
    if (firstSector === undefined) throw new RangeError('lastSector: it goes with firstSector');
    assertInteger(lastSector, 'lastSector', firstSector);
  }
  if (nth !== undefined) assertInteger(nth, 'nth', 1);
  if (times !== undefined) assertInteger(times, 'times', 1);
  if (bit !== undefined) {
    if (kind !== 'bit-rot') throw new RangeError('bit: it goes with bit-rot');
    assertInteger(bit, 'bit', 0, 4096 * 8 - 1);
  }
  if (WITHOUT_SECTORS.includes(kind) && firstSector !== undefined)
    throw new RangeError(`firstSector: a flush has no place, so ${kind} takes none`);
  if (!NEED_SECTORS.includes(kind)) return;
  if (firstSector === undefined) throw new RangeError(`firstSector: ${kind} needs to know where`);
  assertInteger((lastSector ?? firstSector) - firstSector + 1, 'sectors', 1, MAX_SPOILED_SECTORS);
}
