import { isDeepStrictEqual } from 'node:util';
import { type DeviceError, messageOf } from '../core/index.ts';
import type { DiskState } from '../faults/index.ts';
import type { RecoveryRun } from './scenario.ts';
import { describeStep } from './steps.ts';

/** What a recovery may do to its device, tell, or end with. Their places in this list are their numbers in the tree. */
const KINDS = [
  'read',
  'write',
  'fua',
  'flush',
  'discard',
  'writeZeroes',
  'begin',
  'acknowledge',
  'fail',
  'observe',
  'return',
  'throw',
] as const;
export type ActionKind = (typeof KINDS)[number];
/** Operations of the device. */
type OperationKind = 'read' | 'write' | 'fua' | 'flush' | 'discard' | 'writeZeroes';

/** The recovery's side of a run that comes from memory. */
export interface ReplayedRun extends RecoveryRun<unknown, unknown> {
  /** Something ended it before the recovery did. */
  readonly hasEnded: boolean;
  /** The recovery asks for a device operation. */
  step(): void;
  finish(observation: unknown): void;
  fault(error: unknown): void;
}

/** The disk of a run that comes from memory. */
export interface ReplayedDisk {
  /** No fault of the medium is possible. */
  readonly isFaultless: boolean;
  /** Does what a read does, for one who looks at the sectors' versions. */
  touch(sector: number, sectorCount: number): void;
  /**
   * Does what a recovery is known to do here.
   * @param versions what it writes
   * @returns the answer; undefined where it is always the same
   */
  again(
    kind: OperationKind,
    sector: number,
    sectorCount: number,
    versions: readonly number[],
  ): readonly number[] | DeviceError | undefined;
}

/** What a recovery does, and with what. */
export interface Action {
  readonly kind: ActionKind;
  readonly sector: number;
  readonly sectorCount: number;
  /** Numbers of the versions written. */
  readonly versions: readonly number[];
  /** What was told, returned or thrown. */
  readonly value: unknown;
}

/** The first action in which a recovery differs from one before it that had the same answers. */
export interface TreeDifference {
  readonly step: number;
  readonly was: string;
  readonly is: string;
}

/*
 * The tree is made of numbers in one array, because a recovery of a large value is thousands of reads. An action is HEAD
 * (kind, and device operations since the action before), the sector in two halves, the sector count, the versions written
 * or the number of what was told, and NEXT: the next action, or the first outcome where there are several. An outcome
 * is its next action, the next other outcome, and the answer: its length and numbers.
 */
const HEAD = 0;
const SECTOR_LOW = 1;
const SECTOR_HIGH = 2;
const COUNT = 3;
const DATA = 4;
const NEXT = 5;
const ACTION_CELLS = 6;
const OUTCOME_NEXT = 0;
const OUTCOME_OTHER = 1;
const ANSWER = 2;
const KIND_BITS = 4;
const KIND_MASK = (1 << KIND_BITS) - 1;
const WORD = 0x1_0000_0000;
/** 16 MiB. */
const MAX_CELLS = 1 << 22;
const ROOT = 1;
const NOTHING: readonly number[] = [];
const READ = 0;
const FIRST_TOLD = KINDS.indexOf('begin');
const FIRST_END = KINDS.indexOf('return');

/**
 * What recoveries did, by what they found: a tree that branches where a read, or another operation that may fail, was
 * answered in another way. A recovery is a function of what it reads; so one whose answers are all in the tree need not
 * be run to know what it does.
 *
 * Answers are numbers of sector versions, which are equal where the bytes are equal, exactly: see `VersionPool`.
 */
export class RecoveryTree {
  readonly #state: DiskState;
  #cells: Int32Array = new Int32Array(4096);
  #size = 0;
  /** What was told, by number. */
  #values: unknown[] = [];
  /** What failed operations said, by number. */
  readonly #errors: string[] = [];
  #versionLife: number;

  constructor(state: DiskState) {
    this.#state = state;
    this.#versionLife = state.versionLife;
    this.#clear();
  }

  /** It takes in no more. */
  get isFull(): boolean {
    return this.#size >= MAX_CELLS;
  }

  /**
   * Goes through a recovery from memory: does to the disk and tells the run what the recovery would.
   * @returns false where it got to something that no recovery has met yet: then nothing is known of this one, and the
   * state is to be taken back
   */
  walk(run: ReplayedRun, disk: ReplayedDisk): boolean {
    this.#forgetTheDead();
    const cells = this.#cells;
    const begun: unknown[] = [];
    try {
      for (let link = ROOT; link !== 0; ) {
        const action = cells[link]!;
        if (action === 0) return false;
        const kind = cells[action]! & KIND_MASK;
        // Operations that were refused.
        const refused = (cells[action]! >>> KIND_BITS) - (kind < FIRST_TOLD ? 1 : 0);
        for (let left = refused; left > 0; left--) run.step();
        if (kind < FIRST_TOLD) {
          link = this.#operate(action, kind, disk);
        } else {
          this.#tell(KINDS[kind]!, this.#values[cells[action + DATA]!], run, begun);
          if (kind >= FIRST_END) return true;
          link = action + NEXT;
        }
      }
      return false;
    } catch (error) {
      if (run.hasEnded) return true;
      throw error;
    }
  }

  /** @param compares the recovery has been run before: see {@link TreeCursor} */
  cursor(compares: boolean): TreeCursor {
    this.#forgetTheDead();
    return new TreeCursor(this, compares);
  }

  /** Where the link leads to; 0: nobody knows. */
  target(link: number): number {
    return this.#cells[link]!;
  }

  /** The link from an action that has no answer. */
  linkOf(action: number): number {
    return action + NEXT;
  }

  /** Adds an action where the link leads to. */
  add(link: number, { kind, sector, sectorCount, versions, value }: Action, steps: number): number {
    const action = this.#take(ACTION_CELLS + versions.length);
    const cells = this.#cells;
    cells[action + HEAD] = (steps << KIND_BITS) | KINDS.indexOf(kind);
    cells[action + SECTOR_LOW] = sector;
    cells[action + SECTOR_HIGH] = Math.floor(sector / WORD);
    cells[action + COUNT] = sectorCount;
    cells[action + NEXT] = 0;
    if (KINDS.indexOf(kind) >= FIRST_TOLD) cells[action + DATA] = this.#values.push(value) - 1;
    else cells[action + DATA] = versions.length;
    cells.set(versions, action + ACTION_CELLS);
    cells[link] = action;
    return action;
  }

  /** @param withValue what is told must be equal, too */
  isSame(action: number, other: Action, steps: number, withValue: boolean): boolean {
    const cells = this.#cells;
    const { kind, sector, sectorCount, versions, value } = other;
    if (cells[action + HEAD] !== ((steps << KIND_BITS) | KINDS.indexOf(kind))) return false;
    if (this.#sectorOf(action) !== sector || cells[action + COUNT] !== sectorCount) return false;
    if (KINDS.indexOf(kind) >= FIRST_TOLD) return !withValue || this.#isSameValue(action, kind, value);
    if (cells[action + DATA] !== versions.length) return false;
    for (let i = 0; i < versions.length; i++) if (cells[action + ACTION_CELLS + i] !== versions[i]) return false;
    return true;
  }

  /** The link for an answer, which is added where it is new. */
  answered(action: number, given: readonly number[] | Error): number {
    const answer = given instanceof Error ? this.#numberOf(given) : given;
    const known = this.#outcomeFor(action, answer);
    if (known !== 0) return known;
    const outcome = this.#addOutcome(action, answer.length);
    this.#cells.set(answer, outcome + ANSWER + 1);
    return outcome + OUTCOME_NEXT;
  }

  /** The same for a read that gave the versions that the sectors have. */
  read(action: number): number {
    const known = this.#outcomeRead(action);
    if (known !== 0) return known;
    const sector = this.#sectorOf(action);
    const count = this.#cells[action + COUNT]!;
    const outcome = this.#addOutcome(action, count);
    for (let i = 0; i < count; i++) this.#cells[outcome + ANSWER + 1 + i] = this.#state.topVersion(sector + i);
    return outcome + OUTCOME_NEXT;
  }

  /** An action in words. */
  describe({ kind, sector, sectorCount, versions, value }: Action): string {
    if (kind === 'return') return value === undefined ? 'return' : 'observe';
    if (kind === 'throw') return `throw ${messageOf(value)}`;
    if (kind === 'begin' || kind === 'acknowledge' || kind === 'fail' || kind === 'observe') return kind;
    if (versions.length === 0) return describeStep({ kind, sector, sectorCount });
    const bytes = Buffer.concat(versions.map((version) => this.#state.internedBytes(version)));
    return describeStep({ kind, sector, sectorCount, bytes });
  }

  describeAt(action: number): string {
    const cells = this.#cells;
    const kind = cells[action]! & KIND_MASK;
    const isTold = kind >= FIRST_TOLD;
    return this.describe({
      kind: KINDS[kind]!,
      sector: this.#sectorOf(action),
      sectorCount: cells[action + COUNT]!,
      versions: isTold ? [] : this.#versionsOf(action),
      value: isTold ? this.#values[cells[action + DATA]!] : undefined,
    });
  }

  /** @returns the link to what comes then; 0 where nothing is known of that */
  #operate(action: number, kind: number, disk: ReplayedDisk): number {
    const sector = this.#sectorOf(action);
    const sectorCount = this.#cells[action + COUNT]!;
    if (kind === READ && disk.isFaultless) {
      disk.touch(sector, sectorCount);
      return this.#outcomeRead(action);
    }
    const answer = disk.again(KINDS[kind] as OperationKind, sector, sectorCount, this.#versionsOf(action));
    if (answer === undefined) return action + NEXT;
    return this.#outcomeFor(action, answer instanceof Error ? this.#numberOf(answer) : answer);
  }

  /** @param begun operations of this recovery so far: what ends one is known by its number among them */
  #tell(kind: ActionKind, value: unknown, run: ReplayedRun, begun: unknown[]): void {
    if (kind === 'begin') {
      begun.push(value);
      run.begin(value);
    } else if (kind === 'acknowledge') run.acknowledge(begun[value as number]);
    else if (kind === 'fail') run.fail(begun[value as number]);
    else if (kind === 'observe') run.observe(value);
    else if (kind === 'return') run.finish(value);
    else run.fault(value);
  }

  #sectorOf(action: number): number {
    return this.#cells[action + SECTOR_HIGH]! * WORD + (this.#cells[action + SECTOR_LOW]! >>> 0);
  }

  #versionsOf(action: number): readonly number[] {
    const count = this.#cells[action + DATA]!;
    if (count === 0) return NOTHING;
    const start = action + ACTION_CELLS;
    return Array.from(this.#cells.subarray(start, start + count));
  }

  /** An error as an answer: its message. */
  #numberOf(error: Error): readonly number[] {
    const text = messageOf(error);
    const known = this.#errors.indexOf(text);
    return [-1 - (known < 0 ? this.#errors.push(text) - 1 : known)];
  }

  #isSameValue(action: number, kind: ActionKind, value: unknown): boolean {
    const known = this.#values[this.#cells[action + DATA]!];
    return kind === 'throw' ? messageOf(known) === messageOf(value) : isDeepStrictEqual(known, value);
  }

  /** @returns the link of the outcome with this answer; 0: there is none */
  #outcomeFor(action: number, answer: readonly number[]): number {
    const cells = this.#cells;
    search: for (let at = cells[action + NEXT]!; at !== 0; at = cells[at + OUTCOME_OTHER]!) {
      if (cells[at + ANSWER] !== answer.length) continue;
      for (let i = 0; i < answer.length; i++) if (cells[at + ANSWER + 1 + i] !== answer[i]) continue search;
      return at + OUTCOME_NEXT;
    }
    return 0;
  }

  /** The same for the versions that the sectors of a read have. */
  #outcomeRead(action: number): number {
    const cells = this.#cells;
    const sector = this.#sectorOf(action);
    for (let at = cells[action + NEXT]!; at !== 0; at = cells[at + OUTCOME_OTHER]!) {
      if (this.#state.hasVersions(sector, cells, at + ANSWER + 1, cells[at + ANSWER]!)) return at + OUTCOME_NEXT;
    }
    return 0;
  }

  #addOutcome(action: number, answerLength: number): number {
    const outcome = this.#take(ANSWER + 1 + answerLength);
    const cells = this.#cells;
    cells[outcome + OUTCOME_NEXT] = 0;
    cells[outcome + OUTCOME_OTHER] = cells[action + NEXT]!;
    cells[outcome + ANSWER] = answerLength;
    cells[action + NEXT] = outcome;
    return outcome;
  }

  #take(count: number): number {
    const at = this.#size;
    this.#size += count;
    if (this.#size > this.#cells.length) {
      const longer = new Int32Array(Math.max(this.#size, this.#cells.length * 2));
      longer.set(this.#cells);
      this.#cells = longer;
    }
    return at;
  }

  #clear(): void {
    this.#cells[ROOT] = 0;
    this.#size = ROOT + 1;
    this.#values = [];
  }

  /** Versions were taken back: their numbers will mean something else. */
  #forgetTheDead(): void {
    if (this.#versionLife === this.#state.versionLife) return;
    this.#versionLife = this.#state.versionLife;
    this.#clear();
  }
}

/**
 * Enters a recovery that is really run into the tree, action by action. What it does where the tree knows its answers
 * must be what the tree has: otherwise the recovery is no function of what it reads.
 */
export class TreeCursor {
  readonly #tree: RecoveryTree;
  readonly #compares: boolean;
  /** Where it is; 0: it goes no further. */
  #link = ROOT;
  #action = 0;
  #step = 0;
  /** Operations that this recovery began: the one that ends is told from others by its place, not by its value. */
  readonly #begun: unknown[] = [];

  /** @param compares nothing of it may be new, and what it tells is compared, too */
  constructor(tree: RecoveryTree, compares: boolean) {
    this.#tree = tree;
    this.#compares = compares;
  }

  /**
   * Notes an action.
   * @param steps device operations since the last one was noted, with it
   * @returns in what it differs from what was done before after the same answers
   */
  note(given: Action, steps: number): TreeDifference | undefined {
    if (this.#link === 0) return undefined;
    const action = this.#numbered(given);
    const known = this.#tree.target(this.#link);
    if (known === 0) {
      if (this.#compares) return this.#difference('nothing more', action);
      this.#action = this.#tree.isFull ? 0 : this.#tree.add(this.#link, action, steps);
    } else {
      if (!this.#tree.isSame(known, action, steps, this.#compares)) {
        return this.#difference(this.#tree.describeAt(known), action);
      }
      this.#action = known;
    }
    this.#link = this.#action === 0 ? 0 : this.#tree.linkOf(this.#action);
    this.#step++;
    return undefined;
  }

  #numbered(action: Action): Action {
    const { kind, value } = action;
    if (kind === 'begin') this.#begun.push(value);
    return kind === 'acknowledge' || kind === 'fail'
      ? { ...action, value: this.#begun.findIndex((one) => Object.is(one, value)) }
      : action;
  }

  /** Notes what came of the action, where that is not always the same. */
  answer(answer: readonly number[] | Error): void {
    if (this.#link !== 0) this.#link = this.#tree.answered(this.#action, answer);
  }

  /** Notes that the read gave the versions that its sectors have. */
  read(): void {
    if (this.#link !== 0) this.#link = this.#tree.read(this.#action);
  }

  #difference(was: string, action: Action): TreeDifference {
    this.#link = 0;
    return { step: this.#step, was, is: this.#tree.describe(action) };
  }
}
