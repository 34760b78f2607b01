import { crc32 } from 'node:zlib';
import {
  type BlockDevice,
  checkRange,
  checkTransfer,
  type DeviceFeatures,
  type WriteOptions,
  type WriteZeroesOptions,
} from '../blockdev/index.ts';
import { DeviceError } from '../core/index.ts';
import {
  type DiskState,
  type MediaFault,
  type MediaOptions,
  MediaOverlay,
  type MediaState,
  planFlush,
  planWrite,
} from '../faults/index.ts';
import { History } from './history.ts';
import type { Run } from './scenario.ts';
import type { Linearity } from './token.ts';

/** One step of a recorded workload. */
export type TraceEvent =
  /** `versions`: the recorded bytes, by their numbers in the disk state. */
  | { readonly kind: 'write'; readonly sector: number; readonly versions: readonly number[]; readonly fua: boolean }
  | { readonly kind: 'writeZeroes' | 'discard'; readonly sector: number; readonly sectorCount: number }
  | { readonly kind: 'flush' }
  /** A flush that failed, and gave up what it was to make durable. */
  | { readonly kind: 'failed-flush' }
  /** `media`: the state of the medium from then on. */
  | { readonly kind: 'fault'; readonly fault: MediaFault; readonly media: MediaState }
  | { readonly kind: 'begin' | 'acknowledge' | 'fail'; readonly op: unknown };

/** A disk with a volatile cache that keeps working and writes down what it is told. */
export class RecordingDisk implements BlockDevice {
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly sectorCount: number;
  readonly readOnly = false;
  readonly features: DeviceFeatures = { flush: true, fua: true, discard: true, writeZeroes: true, writeCache: true };
  readonly #events: TraceEvent[];
  readonly #state: DiskState;
  readonly #media: MediaOverlay | undefined;
  #closed = false;

  /**
   * @param events where the steps are added
   * @param media which faults may fire; none by default
   */
  constructor(state: DiskState, events: TraceEvent[] = [], media?: Required<MediaOptions>) {
    this.#state = state;
    this.#events = events;
    const note = (fault: MediaFault, after: MediaState) => events.push({ kind: 'fault', fault, media: after });
    this.#media = media === undefined ? undefined : new MediaOverlay(state, media, note);
    this.sectorBytes = state.profile.sectorBytes;
    this.physicalSectorBytes = state.profile.physicalSectorBytes;
    this.sectorCount = state.sectorCount;
  }

  read(sector: number, target: Uint8Array): void {
    checkOpen(this.#closed);
    checkTransfer(this, sector, target);
    if (this.#media === undefined) this.#state.read(sector, target);
    else this.#media.read(sector, target);
  }

  write(sector: number, source: Uint8Array, options?: WriteOptions): void {
    checkOpen(this.#closed);
    const sectorCount = checkTransfer(this, sector, source);
    const isFua = options?.fua === true;
    const plan = planWrite(this.#media, sector, sectorCount);
    if (plan.sectorCount > 0) {
      const written = source.subarray(0, plan.sectorCount * this.sectorBytes);
      this.#record({
        kind: 'write',
        sector: plan.sector,
        versions: this.#state.intern(written),
        fua: isFua && plan.error === undefined,
      });
    }
    if (plan.error !== undefined) throw plan.error;
  }

  flush(): void {
    checkOpen(this.#closed);
    const plan = planFlush(this.#media);
    if (plan.outcome === 'done') this.#record({ kind: 'flush' });
    if (plan.outcome === 'abandon') this.#record({ kind: 'failed-flush' });
    if ('error' in plan) throw plan.error;
  }

  discard(sector: number, sectorCount: number): void {
    checkOpen(this.#closed);
    checkRange(this, sector, sectorCount);
    this.#record({ kind: 'discard', sector, sectorCount });
  }

  writeZeroes(sector: number, sectorCount: number, _options?: WriteZeroesOptions): void {
    checkOpen(this.#closed);
    checkRange(this, sector, sectorCount);
    const plan = planWrite(this.#media, sector, sectorCount);
    if (plan.sectorCount > 0) this.#record({ kind: 'writeZeroes', sector: plan.sector, sectorCount: plan.sectorCount });
    if (plan.error !== undefined) throw plan.error;
  }

  close(): void {
    this.#closed = true;
  }

  #record(event: TraceEvent): void {
    this.#events.push(event);
    stage(this.#state, event);
    settle(this.#state, event);
  }
}

/** @throws DeviceError ECLOSED where the device was closed */
export function checkOpen(closed: boolean): void {
  if (closed) throw new DeviceError('ECLOSED', 'the device was closed: each run is given one of its own');
}

/** Brings what an event writes into the volatile cache. */
export function stage(state: DiskState, event: TraceEvent): void {
  if (event.kind === 'write') state.replayWrite(event.sector, event.versions);
  else if (event.kind === 'writeZeroes') state.writeZeroes(event.sector, event.sectorCount);
  else if (event.kind === 'discard') state.discard(event.sector, event.sectorCount);
}

/** Makes durable what an event makes durable when it completes. */
export function settle(state: DiskState, event: TraceEvent): void {
  if (event.kind === 'flush') state.settleAll();
  else if (event.kind === 'write' && event.fua) state.settle(event.sector, event.versions.length);
  else if (event.kind === 'failed-flush') state.abandon();
  else if (event.kind === 'fault') state.media = event.media;
}

/** Whether the event makes anything durable. */
export function settles(state: DiskState, event: TraceEvent): boolean {
  return event.kind === 'flush' ? state.dirtyCount > 0 : event.kind === 'write' && event.fua;
}

/** Keeps begin, acknowledge and fail in order, and refuses what makes no sense. */
export class OperationLog<Op> {
  readonly #open = new Set<Op>();

  begin(op: Op): void {
    if (this.#open.has(op))
      throw new Error('begin: this operation is in flight already: end it first, or pass another object');
    this.#open.add(op);
  }

  end(op: Op, how: 'acknowledge' | 'fail'): void {
    if (!this.#open.delete(op))
      throw new Error(`${how}: this operation has not begun: pass the object that begin was given`);
  }
}

/** The workload's side of a recording. */
export class RecordingRun<Op> implements Run<Op> {
  readonly #events: TraceEvent[];
  readonly #log = new OperationLog<Op>();

  constructor(events: TraceEvent[]) {
    this.#events = events;
  }

  begin(op: Op): void {
    this.#log.begin(op);
    this.#events.push({ kind: 'begin', op });
  }

  acknowledge(op: Op): void {
    this.#log.end(op, 'acknowledge');
    this.#events.push({ kind: 'acknowledge', op });
  }

  fail(op: Op): void {
    this.#log.end(op, 'fail');
    this.#events.push({ kind: 'fail', op });
  }
}

/**
 * A number that tells workloads apart: of the kinds and places of their steps, and of the bytes that they wrote. A
 * replay token made from another workload is told so.
 */
export function fingerprint(events: readonly TraceEvent[], bytesOf: (version: number) => Uint8Array): number {
  let sum = 0;
  for (const event of events) {
    const where = 'sector' in event ? event.sector : -1;
    const count = 'sectorCount' in event ? event.sectorCount : 0;
    sum = crc32(`${event.kind} ${where} ${count}`, sum);
    if (event.kind !== 'write') continue;
    for (const version of event.versions) sum = crc32(bytesOf(version), sum);
  }
  return sum;
}

/** A simple tool knows no discard that may not have happened. */
function certain(event: TraceEvent): TraceEvent {
  return event.kind === 'discard' ? { ...event, kind: 'writeZeroes' } : event;
}

/** A moment in the workload at which the power may fail. */
export interface CrashPoint {
  readonly index: number;
  /** How many events of the trace have happened. */
  readonly eventIndex: number;
  /** Where it is, for a report: `before flush 3`. */
  readonly where: string;
  readonly history: History;
}

/**
 * Plays a trace onto a disk state, from one crash point to the next.
 *
 * A cut between any two events is covered. Going on, the images grow with every write and what is allowed shrinks with
 * every acknowledgement: both only add violations. A flush shrinks the images, and `begin` widens what is allowed. So of
 * a stretch of the first kind the end covers the rest, and there is one crash point at each end of such a stretch.
 *
 * `linear`: a write is durable at once, as in simple tools. Where it persists whole there is a crash point before every
 * write, where it may tear, in every write.
 */
export class TracePlayer {
  readonly #state: DiskState;
  readonly #events: readonly TraceEvent[];
  readonly #linear: Linearity;
  #position = 0;
  #history = new History();
  #pending = true;
  #pointCount = 0;
  #flushCount = 0;
  #writeCount = 0;
  #staged = false;

  constructor(state: DiskState, events: readonly TraceEvent[], linear: Linearity) {
    this.#state = state;
    this.#events = events;
    this.#linear = linear;
  }

  /** Moves on to the next crash point, or returns undefined past the last one. */
  next(): CrashPoint | undefined {
    for (; this.#position < this.#events.length; this.#position++) {
      const event = this.#events[this.#position]!;
      if (this.#arrive(event) && this.#pending) return this.#point(this.#whereBefore(event));
      this.#complete(event);
    }
    return this.#pending ? this.#point('at the end') : undefined;
  }

  /**
   * Stages what the event writes, once.
   * @returns whether going on from here shrinks the images or widens what is allowed
   */
  #arrive(event: TraceEvent): boolean {
    const isWrite = 'sector' in event;
    if (this.#linear === 'whole') return event.kind === 'begin' || isWrite;
    if (isWrite && !this.#staged) {
      stage(this.#state, this.#linear === 'torn' ? certain(event) : event);
      this.#staged = true;
      this.#pending = true;
    }
    return event.kind === 'begin' || (this.#linear === 'torn' ? isWrite : settles(this.#state, event));
  }

  #complete(event: TraceEvent): void {
    this.#staged = false;
    if (event.kind === 'flush') this.#flushCount++;
    if ('sector' in event) this.#writeCount++;
    if ('op' in event) this.#history = this.#history.with(event);
    if (event.kind === 'fault') this.#history = this.#history.with({ kind: 'fault', fault: event.fault });
    if (event.kind === 'acknowledge' || event.kind === 'fail') this.#pending = true;
    if (this.#linear === false) {
      settle(this.#state, event);
    } else if ('sector' in event) {
      if (this.#linear === 'whole') {
        stage(this.#state, certain(event));
        this.#pending = true;
      }
      this.#state.settleAll();
    } else {
      settle(this.#state, event);
    }
  }

  #point(where: string): CrashPoint {
    this.#pending = false;
    return { index: this.#pointCount++, eventIndex: this.#position, where, history: this.#history };
  }

  #whereBefore(event: TraceEvent): string {
    if (event.kind === 'flush') return `before flush ${this.#flushCount + 1} completes`;
    if ('sector' in event) {
      const write = this.#writeCount + 1;
      if (this.#linear === false) return `before durable write ${write} completes`;
      return this.#linear === 'torn' ? `in write ${write}` : `before write ${write}`;
    }
    return this.#history.length === 0 ? 'before the workload' : 'between operations';
  }
}
