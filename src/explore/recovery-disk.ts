import {
  type BlockDevice,
  checkRange,
  checkTransfer,
  type DeviceFeatures,
  type WriteOptions,
  type WriteZeroesOptions,
} from '../blockdev/index.ts';
import { DeviceError } from '../core/index.ts';
import { type DiskState, type MediaFault, MediaOverlay, planFlush, planWrite } from '../faults/index.ts';
import type { Attempt, AttemptSetup } from './attempt.ts';
import type { ReplayedDisk, TreeCursor } from './recovery-tree.ts';
import type { StepLog } from './steps.ts';
import type { Linearity } from './token.ts';
import { checkOpen } from './trace.ts';

/** The device that a recovery is given. */
export class RecoveryDisk implements BlockDevice, ReplayedDisk {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly = false;
  readonly features: DeviceFeatures = everyFeature;
  readonly #state: DiskState;
  readonly #attempt: Attempt;
  readonly #linear: Linearity;
  readonly #log: StepLog | undefined;
  readonly #media: MediaOverlay | undefined;
  readonly #cursor: TreeCursor | undefined;
  #flushCount = 0;
  #closed = false;

  constructor(setup: AttemptSetup, attempt: Attempt) {
    this.#state = setup.state;
    this.#attempt = attempt;
    this.#linear = setup.linear;
    this.#log = setup.log;
    this.#cursor = setup.cursor;
    const note = (fault: MediaFault) => attempt.noteFault(fault);
    this.#media = setup.media === undefined ? undefined : new MediaOverlay(setup.state, setup.media, note);
    this.sectorBytes = setup.state.profile.sectorBytes;
    this.physicalSectorBytes = setup.state.profile.physicalSectorBytes;
    this.sectorCount = setup.state.sectorCount;
  }

  read(sector: number, target: Uint8Array): void {
    this.#step();
    const sectorCount = checkTransfer(this, sector, target);
    this.#log?.operation('read', sector, sectorCount);
    this.#attempt.note('read', undefined, sector, sectorCount);
    if (this.#media === undefined) this.#state.read(sector, target);
    else this.#tried(() => this.#media?.read(sector, target));
    if (this.#state.media.active.length === 0) this.#cursor?.read();
    else this.#cursor?.answer(this.#state.intern(target));
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    this.#step();
    const sectorCount = checkTransfer(this, sector, source);
    const kind = options?.fua === true ? 'fua' : 'write';
    this.#log?.operation(kind, sector, sectorCount, source);
    const versions = this.#state.intern(source);
    this.#attempt.note(kind, undefined, sector, sectorCount, versions);
    this.#tried(() => this.#write(kind, sector, versions));
    if (this.#media !== undefined) this.#cursor?.answer(DONE);
  }

  flush(): void {
    this.#step();
    this.#log?.operation('flush', 0, 0);
    this.#attempt.note('flush', undefined);
    this.#tried(() => this.#flush());
    if (this.#media !== undefined) this.#cursor?.answer(DONE);
  }

  discard(sector: number, sectorCount: number): void {
    this.#step();
    checkRange(this, sector, sectorCount);
    this.#log?.operation('discard', sector, sectorCount);
    this.#attempt.note('discard', undefined, sector, sectorCount);
    this.#discard(sector, sectorCount);
  }

  writeZeroes(sector: number, sectorCount: number, _options?: WriteZeroesOptions): void {
    this.#step();
    checkRange(this, sector, sectorCount);
    this.#log?.operation('writeZeroes', sector, sectorCount);
    this.#attempt.note('writeZeroes', undefined, sector, sectorCount);
    this.#tried(() => this.#writeZeroes(sector, sectorCount));
    if (this.#media !== undefined) this.#cursor?.answer(DONE);
  }

  close(): void {
    this.#closed = true;
  }

  get isFaultless(): boolean {
    return this.#media === undefined;
  }

  touch(sector: number, sectorCount: number): void {
    this.#attempt.step();
    this.#state.touch(sector, sectorCount);
  }

  again(
    kind: 'read' | 'write' | 'fua' | 'flush' | 'discard' | 'writeZeroes',
    sector: number,
    sectorCount: number,
    versions: readonly number[],
  ): readonly number[] | DeviceError | undefined {
    this.#step();
    try {
      if (kind === 'read') return this.#readAgain(sector, sectorCount);
      if (kind === 'flush') this.#flush();
      else if (kind === 'discard') this.#discard(sector, sectorCount);
      else if (kind === 'writeZeroes') this.#writeZeroes(sector, sectorCount);
      else this.#write(kind, sector, versions);
      return this.#media === undefined || kind === 'discard' ? undefined : DONE;
    } catch (error) {
      if (error instanceof DeviceError) return error;
      throw error;
    }
  }

  /** What a read gives under faults of the medium: the versions of what is delivered, or that the sectors have. */
  #readAgain(sector: number, sectorCount: number): readonly number[] {
    const target = this.#state.scratch(sectorCount * this.sectorBytes);
    this.#media?.read(sector, target);
    if (this.#state.media.active.length > 0) return this.#state.intern(target);
    return Array.from({ length: sectorCount }, (_, i) => this.#state.topVersion(sector + i));
  }

  /** Runs an operation that a fault of the medium may fail, and notes it where it does. */
  #tried(operate: () => void): void {
    try {
      operate();
    } catch (error) {
      if (error instanceof DeviceError) this.#cursor?.answer(error);
      throw error;
    }
  }

  #write(kind: 'write' | 'fua', sector: number, versions: readonly number[]): void {
    this.#beforeWrite();
    const plan = planWrite(this.#media, sector, versions.length);
    if (plan.sectorCount > 0) {
      const written = plan.sectorCount === versions.length ? versions : versions.slice(0, plan.sectorCount);
      this.#state.replayWrite(plan.sector, written);
      this.#afterWrite();
    }
    if (plan.error !== undefined) throw plan.error;
    if (kind !== 'fua' || plan.sectorCount === 0) return;
    this.#attempt.mayCut('before a durable write completes');
    this.#state.settle(plan.sector, plan.sectorCount);
  }

  #flush(): void {
    this.#flushCount++;
    const plan = planFlush(this.#media);
    if (plan.outcome === 'abandon') this.#state.abandon();
    if ('error' in plan) throw plan.error;
    if (this.#state.dirtyCount === 0 || plan.outcome === 'lie') return;
    this.#attempt.mayCut(`before its flush ${this.#flushCount} completes`);
    this.#state.settleAll();
  }

  #discard(sector: number, sectorCount: number): void {
    this.#beforeWrite();
    if (this.#linear !== false) this.#state.writeZeroes(sector, sectorCount);
    else this.#state.discard(sector, sectorCount);
    this.#afterWrite();
  }

  #writeZeroes(sector: number, sectorCount: number): void {
    this.#beforeWrite();
    const plan = planWrite(this.#media, sector, sectorCount);
    if (plan.sectorCount > 0) {
      this.#state.writeZeroes(plan.sector, plan.sectorCount);
      this.#afterWrite();
    }
    if (plan.error !== undefined) throw plan.error;
  }

  /** First of all, also of what is refused then: a recovery that asks for that forever does not end either. */
  #step(): void {
    checkOpen(this.#closed);
    this.#attempt.step();
  }

  #beforeWrite(): void {
    if (this.#linear === 'whole') this.#attempt.mayCut('before a write');
  }

  #afterWrite(): void {
    this.#attempt.noteWrite();
    if (this.#linear === 'torn') this.#attempt.mayCut('in a write');
    if (this.#linear !== false) this.#state.settleAll();
  }
}

/** The answer to an operation that may fail and did not. */
const DONE: readonly number[] = [];

const everyFeature: DeviceFeatures = { flush: true, fua: true, discard: true, writeZeroes: true, writeCache: true };
