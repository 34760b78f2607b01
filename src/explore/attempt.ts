import { type Choices, CodedError, DeviceError, isThenable, messageOf } from '../core/index.ts';
import {
  type Checkpoint,
  type DiskState,
  type MediaFault,
  type MediaOptions,
  NondeterminismError,
  type StateDelta,
} from '../faults/index.ts';
import type { History, HistoryEvent } from './history.ts';
import type { ActionKind, ReplayedRun, TreeCursor } from './recovery-tree.ts';
import type { Scenario } from './scenario.ts';
import type { StepLog } from './steps.ts';
import type { Linearity } from './token.ts';
import { OperationLog } from './trace.ts';

const NOTHING: readonly number[] = [];

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
  readonly linear: Linearity;
  readonly log: StepLog | undefined;
  /** Where what it does is noted, to be known the next time. */
  readonly cursor: TreeCursor | undefined;
}

/** Thrown through a recovery to end it. Not a DeviceError: no layer in between may take it for a fault of the disk. */
class EndOfAttempt extends Error {}

/**
 * One recovery: the device that it works on, and what it tells. It notes where the power may fail again, and judges
 * what is observed.
 */
export class Attempt implements ReplayedRun, Choices {
  readonly snapshots: Snapshot[] = [];
  /** The choices made. */
  readonly choices: number[] = [];
  /** What is wrong, where something is. */
  violation: string | undefined;
  /** What the recovery threw, where that is what is wrong. */
  thrown: unknown;
  nondeterminism: { readonly step: number; readonly message: string } | undefined;
  /** It was not run: what it does was known. */
  isFromMemory = false;
  /** That fired in it. */
  readonly faults: MediaFault[] = [];
  /** The scenario or the token is no good; to be thrown to the caller. */
  misuse: CodedError | undefined;
  readonly #setup: AttemptSetup;
  readonly #operations = new OperationLog<unknown>();
  #history: History;
  #ended: EndOfAttempt | undefined;
  #over = false;
  #steps = 0;
  #notedSteps = 0;
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

  /** Something ended it before the recovery did. */
  get hasEnded(): boolean {
    return this.#ended !== undefined;
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
    this.note('begin', op);
    this.mayCut('between operations');
    this.#changed = true;
    this.#tell({ kind: 'begin', op });
  }

  acknowledge(op: unknown): void {
    this.#checkLive();
    this.#operations.end(op, 'acknowledge');
    this.note('acknowledge', op);
    this.#tell({ kind: 'acknowledge', op });
    this.#pending = true;
  }

  fail(op: unknown): void {
    this.#checkLive();
    this.#operations.end(op, 'fail');
    this.note('fail', op);
    this.#tell({ kind: 'fail', op });
    this.#pending = true;
  }

  observe(observation: unknown): void {
    this.#checkLive();
    this.note('observe', observation);
    this.#judge(observation);
  }

  #judge(observation: unknown): void {
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
    this.faults.push(fault);
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

  /** Notes what the recovery does, before it takes effect. */
  note(
    kind: ActionKind,
    value: unknown,
    sector: number = 0,
    sectorCount: number = 0,
    versions: readonly number[] = NOTHING,
  ): void {
    const { cursor } = this.#setup;
    if (cursor === undefined) return;
    const action = { kind, value, sector, sectorCount, versions };
    const difference = cursor.note(action, this.#steps - this.#notedSteps);
    this.#notedSteps = this.#steps;
    if (difference === undefined) return;
    const { step, was, is } = difference;
    const message = `step ${step} of the recovery was "${was}", then "${is}"`;
    this.nondeterminism = { step, message };
    this.#end(message);
  }

  /** The recovery returned. */
  finish(observation: unknown): void {
    if (this.#ended !== undefined) return;
    this.note('return', observation);
    if (observation !== undefined) this.#judge(observation);
    if (this.#observed) this.mayCut('at its end');
    else this.misuse = new CodedError('EINVAL', 'scenario: recover observed nothing and returned nothing to check');
  }

  /** The recovery threw. */
  fault(error: unknown): void {
    if (this.#ended !== undefined) return;
    this.note('throw', error);
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
