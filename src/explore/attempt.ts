import {
  type BlockDevice,
  checkRange,
  checkTransfer,
  type DeviceFeatures,
  type WriteOptions,
  type WriteZeroesOptions,
} from '../blockdev/index.ts';
import { type Choices, CodedError, DeviceError, isThenable, messageOf } from '../core/index.ts';
import {
  type Checkpoint,
  type DiskState,
  type MediaFault,
  type MediaOptions,
  MediaOverlay,
  NondeterminismError,
  planFlush,
  planWrite,
  type StateDelta,
} from '../faults/index.ts';
import type { History, HistoryEvent } from './history.ts';
import type { RecoveryRun, Scenario } from './scenario.ts';
import type { StepLog } from './steps.ts';
import type { Linearity } from './token.ts';
import { checkOpen, OperationLog } from './trace.ts';

/** A moment in a recovery at which the power may fail again. Valid while the attempt's memory is. */
export interface Snapshot {
  /** Which one it is, among all of its recovery. */
  readonly ordinal: number;
  readonly where: string;
  readonly delta: StateDelta;
  readonly history: History;
  /** How many choices led here. */
  readonly choiceCount: number;
  /** How many steps of the log. */
  readonly stepCount: number;
}

export interface AttemptSetup {
  readonly scenario: Scenario;
  readonly state: DiskState;
  /** The state that the recovery starts from. */
  readonly base: Checkpoint;
  /** Up to and with the cut. */
  readonly history: History;
  readonly choices: Choices;
  /** Take snapshots where a further cut makes a difference. */
  readonly captures: boolean;
  /** Snapshots after this many choices or fewer were taken by the run before; -1: none were. */
  readonly sharedCount: number;
  readonly maxSteps: number;
  /** Which faults of the medium may fire; undefined: none. */
  readonly media: Required<MediaOptions> | undefined;
  readonly onFault: (fault: MediaFault) => void;
  readonly linear: Linearity;
  readonly log: StepLog | undefined;
}

/** Thrown through a recovery to end it. Not a DeviceError: no layer in between may take it for a fault of the disk. */
class EndOfAttempt extends Error {}

/**
 * One recovery: the device that it works on, and what it tells. It notes where the power may fail again, and judges
 * what is observed.
 */
export class Attempt implements RecoveryRun<unknown, unknown>, Choices {
  readonly snapshots: Snapshot[] = [];
  /** The choices made. */
  readonly choices: number[] = [];
  /** What is wrong, where something is. */
  violation: string | undefined;
  /** What the recovery threw, where that is what is wrong. */
  thrown: unknown;
  nondeterminism: NondeterminismError | undefined;
  /** The scenario or the token is no good; to be thrown to the caller. */
  misuse: CodedError | undefined;
  readonly #setup: AttemptSetup;
  readonly #operations = new OperationLog<unknown>();
  #history: History;
  #ended: EndOfAttempt | undefined;
  #over = false;
  #steps = 0;
  #snapshotCount = 0;
  #observed = false;
  /** The device was written to, or an operation began: a cut now is not the one that this recovery started from. */
  #changed = false;
  /** Since the last snapshot images were added or what is allowed shrank. */
  #pending = false;

  constructor(setup: AttemptSetup) {
    this.#setup = setup;
    this.#history = setup.history;
  }

  /** With what this recovery told. */
  get history(): History {
    return this.#history;
  }

  choose(options: number, label: string): number {
    if (options <= 1) return 0;
    const value = this.#ask(options, label);
    this.choices.push(value);
    return value;
  }

  begin(op: unknown): void {
    this.#checkLive();
    this.#operations.begin(op);
    this.mayCut('between operations');
    this.#changed = true;
    this.#tell({ kind: 'begin', op });
  }

  acknowledge(op: unknown): void {
    this.#checkLive();
    this.#operations.end(op, 'acknowledge');
    this.#tell({ kind: 'acknowledge', op });
    this.#pending = true;
  }

  fail(op: unknown): void {
    this.#checkLive();
    this.#operations.end(op, 'fail');
    this.#tell({ kind: 'fail', op });
    this.#pending = true;
  }

  observe(observation: unknown): void {
    this.#checkLive();
    this.#observed = true;
    const event = { kind: 'observe', observation } as const;
    // Into the log first: what was observed is what a story of the violation must show.
    this.#setup.log?.tell(event);
    let returned: unknown;
    try {
      returned = this.#setup.scenario.invariant(observation, this.#history);
    } catch (error) {
      this.#violate(messageOf(error));
    }
    if (isThenable(returned)) this.#refuseAsync(returned);
    this.#history = this.#history.with(event);
    // Nothing was changed: the next recovery would find this very disk, and observe this again.
    if (this.#changed) this.#pending = true;
  }

  /** Called when a fault of the medium is about to take effect. */
  noteFault(fault: MediaFault): void {
    this.mayCut('before a fault');
    this.#setup.onFault(fault);
    this.#tell({ kind: 'fault', fault });
    // A fault that goes with the power: the next recovery may find more than this one.
    this.#changed = true;
  }

  /** Called for each device operation. */
  step(): void {
    this.#checkLive();
    if (++this.#steps > this.#setup.maxSteps) {
      this.#violate(`recovery did not end after ${this.#setup.maxSteps} device operations`);
    }
  }

  /** Called when images were added. */
  noteWrite(): void {
    this.#changed = true;
    this.#pending = true;
  }

  /** Called before images are taken away or more becomes allowed: the power may fail here. */
  mayCut(where: string): void {
    if (!this.#pending) return;
    this.#pending = false;
    const ordinal = this.#snapshotCount++;
    if (!this.#setup.captures || this.choices.length <= this.#setup.sharedCount) return;
    const delta = this.#setup.state.capture(this.#setup.base);
    const choiceCount = this.choices.length;
    const stepCount = this.#setup.log?.steps.length ?? 0;
    const history = this.#history;
    this.snapshots.push({ ordinal, where: `in recovery, ${where}`, delta, history, choiceCount, stepCount });
  }

  /** The recovery returned. */
  finish(observation: unknown): void {
    if (this.#ended !== undefined) return;
    if (observation !== undefined) this.observe(observation);
    if (this.#observed) this.mayCut('at its end');
    else this.misuse = new CodedError('EINVAL', 'scenario: recover observed nothing and returned nothing to check');
  }

  /** The recovery threw. */
  fault(error: unknown): void {
    if (this.#ended !== undefined) return;
    this.violation = `recovery failed: ${messageOf(error)}`;
    this.thrown = error;
  }

  /** No more is accepted: whatever still runs belongs to the past. */
  close(): void {
    this.#over = true;
  }

  #ask(options: number, label: string): number {
    try {
      return this.#setup.choices.choose(options, label);
    } catch (error) {
      if (error instanceof NondeterminismError) this.nondeterminism = error;
      else if (error instanceof CodedError) this.misuse = error;
      else throw error;
      this.#end(error.message);
    }
  }

  #tell(event: HistoryEvent<unknown, unknown>): void {
    this.#history = this.#history.with(event);
    this.#setup.log?.tell(event);
  }

  /** A promise would be taken for consent, whatever it comes to. */
  #refuseAsync(promise: PromiseLike<unknown>): never {
    // It is refused as a whole: its rejection has nothing to add.
    promise.then(undefined, () => undefined);
    const message = 'scenario.invariant: expected it to return or throw, got a promise: make it synchronous';
    this.misuse = new CodedError('EINVAL', message);
    this.#end(message);
  }

  #violate(message: string): never {
    this.violation = message;
    this.#end(message);
  }

  #end(message: string): never {
    this.#ended = new EndOfAttempt(message);
    throw this.#ended;
  }

  #checkLive(): void {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#over)
      throw new DeviceError('ECLOSED', 'this recovery is over: await all that it starts before it returns');
  }
}

/** The device that a recovery is given. */
export class RecoveryDisk implements BlockDevice {
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
  #flushCount = 0;
  #closed = false;

  constructor(setup: AttemptSetup, attempt: Attempt) {
    this.#state = setup.state;
    this.#attempt = attempt;
    this.#linear = setup.linear;
    this.#log = setup.log;
    const note = (fault: MediaFault) => attempt.noteFault(fault);
    this.#media = setup.media === undefined ? undefined : new MediaOverlay(setup.state, setup.media, note);
    this.sectorBytes = setup.state.profile.sectorBytes;
    this.physicalSectorBytes = setup.state.profile.physicalSectorBytes;
    this.sectorCount = setup.state.sectorCount;
  }

  read(sector: number, target: Uint8Array): void {
    checkOpen(this.#closed);
    this.#attempt.step();
    const sectorCount = checkTransfer(this, sector, target);
    this.#log?.operation('read', sector, sectorCount);
    if (this.#media === undefined) this.#state.read(sector, target);
    else this.#media.read(sector, target);
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    checkOpen(this.#closed);
    const sectorCount = checkTransfer(this, sector, source);
    const fua = options?.fua === true;
    this.#beforeWrite(fua ? 'fua' : 'write', sector, sectorCount, source);
    const plan = planWrite(this.#media, sector, sectorCount);
    if (plan.sectorCount > 0) {
      this.#state.write(plan.sector, source.subarray(0, plan.sectorCount * this.sectorBytes));
      this.#afterWrite();
    }
    if (plan.error !== undefined) throw plan.error;
    if (!fua || plan.sectorCount === 0) return;
    this.#attempt.mayCut('before a durable write completes');
    this.#state.settle(plan.sector, plan.sectorCount);
  }

  flush(): void {
    checkOpen(this.#closed);
    this.#attempt.step();
    this.#log?.operation('flush', 0, 0);
    this.#flushCount++;
    const plan = planFlush(this.#media);
    if (plan.outcome === 'abandon') this.#state.abandon();
    if ('error' in plan) throw plan.error;
    if (this.#state.dirtyCount === 0 || plan.outcome === 'lie') return;
    this.#attempt.mayCut(`before its flush ${this.#flushCount} completes`);
    this.#state.settleAll();
  }

  discard(sector: number, sectorCount: number): void {
    checkOpen(this.#closed);
    checkRange(this, sector, sectorCount);
    this.#beforeWrite('discard', sector, sectorCount);
    if (this.#linear !== false) this.#state.writeZeroes(sector, sectorCount);
    else this.#state.discard(sector, sectorCount);
    this.#afterWrite();
  }

  writeZeroes(sector: number, sectorCount: number, _options?: WriteZeroesOptions): void {
    checkOpen(this.#closed);
    checkRange(this, sector, sectorCount);
    this.#beforeWrite('writeZeroes', sector, sectorCount);
    const plan = planWrite(this.#media, sector, sectorCount);
    if (plan.sectorCount > 0) {
      this.#state.writeZeroes(plan.sector, plan.sectorCount);
      this.#afterWrite();
    }
    if (plan.error !== undefined) throw plan.error;
  }

  close(): void {
    this.#closed = true;
  }

  #beforeWrite(
    kind: 'write' | 'fua' | 'discard' | 'writeZeroes',
    sector: number,
    sectorCount: number,
    source?: Uint8Array,
  ): void {
    this.#attempt.step();
    this.#log?.operation(kind, sector, sectorCount, source);
    if (this.#linear === 'whole') this.#attempt.mayCut('before a write');
  }

  #afterWrite(): void {
    this.#attempt.noteWrite();
    if (this.#linear === 'torn') this.#attempt.mayCut('in a write');
    if (this.#linear !== false) this.#state.settleAll();
  }
}

const everyFeature: DeviceFeatures = { flush: true, fua: true, discard: true, writeZeroes: true, writeCache: true };
