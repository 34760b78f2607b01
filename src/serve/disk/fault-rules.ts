import { CodedError, DeviceError } from '../../core/index.ts';
import { mediaFaultKinds, type OperationKind } from '../../faults/index.ts';
import { assertFaultKind, assertServedFault, type ServedFault, type ServedFaultKind } from './served-faults.ts';

const MAX_RULES = 64;

/** What becomes of a write. */
export interface ServedWrite {
  /** Where it goes. */
  readonly sector: number;
  /** How many of its sectors are written, the first ones. */
  readonly sectorCount: number;
  /** It fails all the same. */
  readonly error: DeviceError | undefined;
}

/** A fault that is at work, or waits for its operation. */
class Rule {
  readonly fault: ServedFault;
  readonly first: number;
  readonly last: number;
  /** Of `latent-error` and `bit-rot`: sectors that have not been rewritten. */
  readonly spoiled: Set<number> | undefined;
  /** Of `stale-read`: what sectors held before they were written last. */
  readonly before: Map<number, Uint8Array> | undefined;
  hasFired = false;
  #toSkip: number;
  #left: number;

  constructor(fault: ServedFault) {
    this.fault = fault;
    this.first = fault.firstSector ?? 0;
    this.last = fault.lastSector ?? fault.firstSector ?? Number.POSITIVE_INFINITY;
    this.#toSkip = (fault.nth ?? 1) - 1;
    this.#left = fault.times ?? Number.POSITIVE_INFINITY;
    if (fault.kind === 'stale-read') this.before = new Map();
    if (fault.kind === 'latent-error' || fault.kind === 'bit-rot')
      this.spoiled = new Set(Array.from({ length: this.last - this.first + 1 }, (_, i) => this.first + i));
  }

  /** A flush, of no sectors, is touched unless there is a place. */
  touches(sector: number, sectorCount: number): boolean {
    if (this.fault.firstSector === undefined) return true;
    return sector <= this.last && sector + sectorCount > this.first;
  }

  concerns(kind: OperationKind): boolean {
    const { of = 'any' } = this.fault;
    return of === 'any' || of === kind;
  }

  /** Counts a matching operation. @returns whether it is concerned */
  fires(): boolean {
    if (this.#toSkip > 0) {
      this.#toSkip--;
      return false;
    }
    if (this.#left === 0) return false;
    this.#left--;
    this.hasFired = true;
    return true;
  }
}

/** The faults that a served disk is asked for, and how often each kind fired. */
export class FaultRules {
  readonly counts: Record<ServedFaultKind, number> = Object.fromEntries(
    mediaFaultKinds.map((kind) => [kind, 0]),
  ) as Record<ServedFaultKind, number>;
  readonly #sectorBytes: number;
  readonly #sectorCount: number;
  readonly #release: () => void;
  #rules: Rule[] = [];

  /** @param release called when requests that hang are to go on */
  constructor(sectorBytes: number, sectorCount: number, release: () => void) {
    this.#sectorBytes = sectorBytes;
    this.#sectorCount = sectorCount;
    this.#release = release;
  }

  /** Whether there is anything to ask: the disk's fast path. */
  get none(): boolean {
    return this.#rules.length === 0;
  }

  get all(): readonly ServedFault[] {
    return this.#rules.map(({ fault }) => fault);
  }

  /** @throws TypeError, RangeError for what is no fault; CodedError E2BIG for too many */
  add(fault: ServedFault): void {
    assertServedFault(fault, this.#sectorCount);
    if (this.#rules.length >= MAX_RULES)
      throw new CodedError('E2BIG', `fault: there are ${MAX_RULES} already: clear some`);
    this.#rules.push(new Rule(fault));
  }

  /**
   * Takes all back, or those of a kind. What is rotten reads as it should again, what hangs goes on.
   * @returns how many there were
   */
  clear(kind?: ServedFaultKind): number {
    if (kind !== undefined) assertFaultKind(kind);
    const before = this.#rules.length;
    this.#rules = kind === undefined ? [] : this.#rules.filter(({ fault }) => fault.kind !== kind);
    if (kind === undefined || kind === 'hung-request') this.#release();
    return before - this.#rules.length;
  }

  /** What was in the controller, and not on the medium, is gone: requests that hang, and what is read stale. */
  powerFailed(): void {
    this.#rules = this.#rules.filter(({ fault, hasFired }) => fault.kind !== 'hung-request' || !hasFired);
    for (const rule of this.#rules) rule.before?.clear();
    this.#release();
  }

  /** Whether an operation never completes. To be asked once for each, with no sectors for a flush. */
  hangs(kind: OperationKind, sector: number, sectorCount: number): boolean {
    return this.#of('hung-request', sector, sectorCount).some(
      (rule) => rule.concerns(kind) && this.#fires(rule, 'hung-request'),
    );
  }

  /** Milliseconds by which an operation takes longer. To be asked once for each. */
  delayMs(kind: OperationKind, sector: number, sectorCount: number): number {
    let delayMs = 0;
    for (const rule of this.#of('latency-spike', sector, sectorCount)) {
      if (rule.concerns(kind) && this.#fires(rule, 'latency-spike')) delayMs += rule.fault.delayMs ?? 0;
    }
    return delayMs;
  }

  /**
   * Reads through the faults.
   * @param read reads from the device as it is
   * @throws DeviceError EIO
   */
  read(sector: number, target: Uint8Array, read: (sector: number, target: Uint8Array) => void): void {
    const sectorCount = target.length / this.#sectorBytes;
    this.#failIf('read-error', sector, sectorCount);
    const from = this.#misdirected('misdirected-read', sector, sectorCount);
    if (from === sector) this.#failIfLatent(sector, sectorCount);
    read(from, target);
    if (from !== sector) return;
    this.#age(sector, sectorCount, target);
    this.#rot(sector, sectorCount, target);
  }

  /** To be asked before a write. */
  planWrite(sector: number, sectorCount: number): ServedWrite {
    for (const rule of this.#of('write-error', sector, sectorCount)) {
      if (!this.#fires(rule, 'write-error')) continue;
      const written = Math.min(rule.fault.writtenSectors ?? 0, sectorCount);
      return { sector, sectorCount: written, error: asked('write-error') };
    }
    if (this.#any('lost-write', sector, sectorCount)) return { sector, sectorCount: 0, error: undefined };
    const to = this.#misdirected('misdirected-write', sector, sectorCount);
    return { sector: to, sectorCount, error: undefined };
  }

  /**
   * To be asked before a discard, or zeros.
   * @returns whether it is to be lost
   * @throws DeviceError EIO
   */
  losesZeros(sector: number, sectorCount: number): boolean {
    this.#failIf('write-error', sector, sectorCount);
    return this.#any('lost-write', sector, sectorCount);
  }

  /**
   * To be told before sectors are changed: what was spoiled there is gone, what they held is kept where it is to be read.
   * @param read reads from the device as it is
   */
  changing(sector: number, sectorCount: number, read: (sector: number, target: Uint8Array) => void): void {
    for (const { first, last, spoiled, before } of this.#rules) {
      if (spoiled === undefined && before === undefined) continue;
      const end = Math.min(last + 1, sector + sectorCount);
      for (let each = Math.max(first, sector); each < end; each++) {
        spoiled?.delete(each);
        if (before === undefined) continue;
        const bytes = before.get(each) ?? new Uint8Array(this.#sectorBytes);
        read(each, bytes);
        before.set(each, bytes);
      }
    }
  }

  /** To be asked before a flush. @returns whether it is carried out, or said to be, or fails for good */
  planFlush(): 'done' | 'lie' | 'failure' {
    if (this.#any('flush-error', 0, 0)) return 'failure';
    return this.#any('lying-flush', 0, 0) ? 'lie' : 'done';
  }

  /** Whether FUA means nothing now. Counts nothing: it is the write's flag, not an operation. */
  get liesAboutFua(): boolean {
    return this.#rules.some(({ fault }) => fault.kind === 'lying-flush');
  }

  #fires(rule: Rule, kind: ServedFaultKind): boolean {
    if (!rule.fires()) return false;
    this.counts[kind]++;
    return true;
  }

  #any(kind: ServedFaultKind, sector: number, sectorCount: number): boolean {
    return this.#of(kind, sector, sectorCount).some((rule) => this.#fires(rule, kind));
  }

  #failIf(kind: ServedFaultKind, sector: number, sectorCount: number): void {
    if (this.#any(kind, sector, sectorCount)) throw asked(kind);
  }

  #failIfLatent(sector: number, sectorCount: number): void {
    for (const rule of this.#of('latent-error', sector, sectorCount)) {
      const bad = firstSpoiled(rule, sector, sectorCount);
      if (bad === undefined || !this.#fires(rule, 'latent-error')) continue;
      throw new DeviceError('EIO', `latent-error: sector ${bad} can't be read until it is rewritten`);
    }
  }

  /** Where a request goes: as a rule where it should. */
  #misdirected(kind: ServedFaultKind, sector: number, sectorCount: number): number {
    for (const rule of this.#of(kind, sector, sectorCount)) {
      const { toSector } = rule.fault;
      const end = this.#sectorCount - sectorCount;
      const to = toSector === undefined ? oneBitOff(sector, sectorCount, end) : Math.min(toSector, end);
      if (to !== sector && this.#fires(rule, kind)) return to;
    }
    return sector;
  }

  /** Lets what sectors held before show in what was read. */
  #age(sector: number, sectorCount: number, target: Uint8Array): void {
    for (const rule of this.#of('stale-read', sector, sectorCount)) {
      const old = Array.from({ length: sectorCount }, (_, i) => rule.before?.get(sector + i));
      if (old.every((bytes) => bytes === undefined) || !this.#fires(rule, 'stale-read')) continue;
      for (const [i, bytes] of old.entries()) if (bytes !== undefined) target.set(bytes, i * this.#sectorBytes);
    }
  }

  /** Lets rotten bits show in what was read. */
  #rot(sector: number, sectorCount: number, target: Uint8Array): void {
    for (const rule of this.#of('bit-rot', sector, sectorCount)) {
      if (firstSpoiled(rule, sector, sectorCount) === undefined || !this.#fires(rule, 'bit-rot')) continue;
      const bit = (rule.fault.bit ?? 0) % (this.#sectorBytes * 8);
      for (let i = 0; i < sectorCount; i++) {
        if (rule.spoiled?.has(sector + i)) target[i * this.#sectorBytes + (bit >>> 3)]! ^= 1 << (bit & 7);
      }
    }
  }

  #of(kind: ServedFaultKind, sector: number, sectorCount: number): Rule[] {
    return this.#rules.filter((rule) => rule.fault.kind === kind && rule.touches(sector, sectorCount));
  }
}

function asked(kind: ServedFaultKind): DeviceError {
  return new DeviceError('EIO', `${kind}: as it was asked for`);
}

function firstSpoiled(rule: Rule, sector: number, sectorCount: number): number | undefined {
  for (let i = sector; i < sector + sectorCount; i++) if (rule.spoiled?.has(i)) return i;
  return undefined;
}

/** The nearest place with one bit of the address wrong that the request neither reaches nor leaves the disk by. */
function oneBitOff(sector: number, sectorCount: number, end: number): number {
  for (let bit = 1; bit <= end; bit *= 2) {
    if (bit < sectorCount) continue;
    const to = Math.floor(sector / bit) % 2 === 0 ? sector + bit : sector - bit;
    if (to <= end) return to;
  }
  return sector;
}
