import { type Cancel, type Clock, describeValue, systemClock, systemTimers, type Timers } from '../core/index.ts';
import { assertCommit, type Budgets, type CommitMode, type StateFs } from '../statefs/index.ts';
import { Audit } from './audit.ts';
import type { Authority } from './authority.ts';
import { encodeError } from './codec.ts';
import { Executor, type ServiceEvent } from './executor.ts';
import { Job } from './job.ts';
import { type Limits, resolveLimits } from './limits.ts';
import { FRAME_OVERHEAD_BYTES } from './operations.ts';
import { answerFault, LARGEST_FRAME_BYTES, type Peer, Session, type SessionHost, type Waiting } from './session.ts';

export interface ServiceOptions {
  /**
   * The store, open for writing, with budgets for payloads and transactions no smaller than any payload that the policy
   * allows. It stays the caller's, who closes it after {@link StateFsService.stop}; see {@link StateFsService.store}.
   */
  readonly store: StateFs;
  readonly authority: Authority;
  /** Default: a ring in memory, no sinks. */
  readonly audit?: Audit;
  /** What holds where the policy has no budget. Default: 1 MiB, a warning after 250 ms, no deadline. */
  readonly budgets?: Partial<Budgets>;
  /** Default 'checksummed', in which puts that arrive together share one flush. In 'ordered' each has its own two. */
  readonly commit?: CommitMode;
  readonly limits?: Partial<Limits>;
  /** Default: the machine's. */
  readonly clock?: Clock;
  /** Default: the machine's. */
  readonly timers?: Timers;
  /**
   * For tests: what `reopen` does. It takes the store that is served and returns the one to serve from now on. Without
   * it `reopen` is refused.
   */
  readonly reopen?: (store: StateFs) => StateFs;
  /** Called synchronously; what it throws is dropped. */
  readonly onEvent?: (event: ServiceEvent) => void;
}

/** How a connection was received. */
export type Admission = { readonly session: Session } | { readonly refused: string };

const DEFAULT_BUDGETS: Budgets = {
  payloadBytes: 1024 * 1024,
  softLatencyMs: 250,
  deadlineMs: Number.POSITIVE_INFINITY,
};
/** What is answered after the flush of its batch. */
interface Held {
  readonly session: Session;
  readonly waiting: Waiting;
}

/** How often times are looked at: a limit is held to within this. */
const SWEEP_MS = 250;

/**
 * The service around a store: sessions in, answers out. It knows no sockets; transports bring it bytes.
 *
 * Requests wait until {@link Timers.soon}, when everything that has arrived is carried out, one after the other and each
 * to the end; the puts among them share one flush, and are answered after it. No answer overtakes another of its
 * connection.
 */
export class StateFsService implements SessionHost {
  readonly clock: Clock;
  readonly limits: Limits;
  readonly timers: Timers;
  readonly #authority: Authority;
  readonly #audit: Audit;
  readonly #budgets: Budgets;
  readonly #executor: Executor;
  readonly #onEvent: (event: ServiceEvent) => void;
  readonly #sessions = new Set<Session>();
  /** Sessions with something to do, the longest waiting first. */
  readonly #ready = new Set<Session>();
  #scheduled: Cancel | undefined;
  #sweep: Cancel | undefined;
  #sweptMs = 0;
  #isStopping = false;
  #frameBytes = 0;
  #generation = 0;

  /** @throws TypeError, RangeError for what are no options */
  constructor(options: ServiceOptions) {
    const { store, authority, commit = 'checksummed' } = options;
    const onEvent = guarded(options.onEvent ?? (() => {}));
    assertCommit(commit);
    this.clock = options.clock ?? systemClock;
    this.limits = resolveLimits(options.limits);
    this.#authority = authority;
    this.#audit = options.audit ?? new Audit({ clock: this.clock });
    this.timers = options.timers ?? systemTimers;
    this.#budgets = { ...DEFAULT_BUDGETS, ...options.budgets };
    this.#onEvent = onEvent;
    this.#executor = new Executor({
      store,
      reopen: options.reopen,
      authority,
      audit: this.#audit,
      clock: this.clock,
      budgets: this.#budgets,
      commit,
      onEvent,
    });
  }

  /** The store that is served: another one after a `reopen`. */
  get store(): StateFs {
    return this.#executor.store;
  }

  get authority(): Authority {
    return this.#authority;
  }

  get connectionCount(): number {
    return this.#sessions.size;
  }

  /** Longest frame that is kept: room for the largest payload that any budget allows. */
  get frameBytes(): number {
    if (this.#generation !== this.#authority.generation) {
      this.#generation = this.#authority.generation;
      const largest = this.#authority.policy.budgets.reduce(
        (most, { payloadBytes = 0 }) => Math.max(most, payloadBytes),
        this.#budgets.payloadBytes,
      );
      this.#frameBytes = Math.min(largest + FRAME_OVERHEAD_BYTES, LARGEST_FRAME_BYTES);
    }
    return this.#frameBytes;
  }

  /**
   * Receives a connection. The subject is what the transport knows of the other end, never what that says of itself.
   * @returns the session, or why there is none; then the peer was told, and ended
   */
  connect(subject: string, peer: Peer): Admission {
    const refused = this.#refusalOf(subject);
    if (refused !== undefined) {
      const status = this.#isStopping ? 'ECLOSED' : 'EBUSY';
      peer.send(encodeError(undefined, 0, { status, inDoubt: false, message: refused }));
      peer.end();
      return { refused };
    }
    const session = new Session(subject, peer, this);
    this.#sessions.add(session);
    if (this.#sweep === undefined) {
      this.#sweptMs = this.clock.monotonicMs();
      this.#sweep = this.timers.after(SWEEP_MS, () => this.#checkTimes(), false);
    }
    return { session };
  }

  /** Ends every session of a subject that has no channel any more. */
  disconnect(subject: string): void {
    for (const session of this.#sessions) if (session.subject === subject) session.finish();
  }

  /**
   * Carries out everything that has arrived, answers it, and ends the connections. No more is received afterwards. The
   * store stays open: it is the caller's to close.
   */
  stop(): void {
    this.#isStopping = true;
    for (const session of this.#sessions) session.finish();
    while (this.#ready.size > 0) this.runBatch();
    // Those whose peer takes no answers: nothing more is carried out for them.
    for (const session of this.#sessions) session.close('the server is shutting down');
    this.#scheduled?.();
    this.#sweep?.();
    this.#scheduled = undefined;
    this.#sweep = undefined;
  }

  /** For a session: it has something to do. */
  ready(session: Session): void {
    this.#ready.add(session);
    this.#scheduled ??= this.timers.soon(() => {
      this.#scheduled = undefined;
      this.runBatch();
    });
  }

  /** For a session: it is over. */
  gone(session: Session, reason: string): void {
    this.#sessions.delete(session);
    this.#ready.delete(session);
    this.#onEvent({ type: 'closed', subject: session.subject, reason });
  }

  /**
   * Carries out requests that wait, in turn from each session, up to a batch; flushes once; answers. Called by the
   * service itself; a test may call it to decide on the moment.
   * @returns how many requests it answered
   */
  runBatch(): number {
    const held: Held[] = [];
    let count = 0;
    let awaitsSync = false;
    while (count < this.limits.batchRequests) {
      const session = this.#nextReady();
      const waiting = session?.take();
      if (session === undefined || waiting === undefined) break;
      count++;
      if (waiting instanceof Job) {
        this.#executor.run(waiting);
        awaitsSync ||= waiting.awaitsSync;
      }
      // What was seen or done after an unflushed put may be answered only with it.
      if (awaitsSync) held.push({ session, waiting });
      else session.send(this.#answer(waiting));
      if (session.isReady && !session.isClosed) this.#ready.add(session);
    }
    if (awaitsSync) this.#settle(held);
    const next = this.#ready.values().next().value;
    if (next !== undefined) this.ready(next);
    return count;
  }

  #settle(held: readonly Held[]): void {
    const error = this.#executor.sync();
    for (const { session, waiting } of held) {
      if (error !== undefined && waiting instanceof Job) this.#executor.failSync(waiting, error);
      session.send(this.#answer(waiting));
    }
  }

  #answer(waiting: Waiting): Uint8Array {
    return waiting instanceof Job ? this.#executor.finish(waiting) : answerFault(waiting);
  }

  /** The session whose turn it is, taken off the list. */
  #nextReady(): Session | undefined {
    for (const session of this.#ready) {
      this.#ready.delete(session);
      if (session.isReady && !session.isClosed) return session;
    }
    return undefined;
  }

  #refusalOf(subject: string): string | undefined {
    if (typeof subject !== 'string') throw new TypeError(`subject: expected a string, got ${describeValue(subject)}`);
    if (this.#isStopping) return 'the server is shutting down: connect again later';
    const { connections, connectionsPerSubject } = this.limits;
    if (this.#sessions.size >= connections) return `the server has its ${connections} connections: connect again later`;
    let own = 0;
    for (const session of this.#sessions) if (session.subject === subject) own++;
    return own < connectionsPerSubject
      ? undefined
      : `${subject} has its ${connectionsPerSubject} connections: close one, or connect again later`;
  }

  #checkTimes(): void {
    const nowMs = this.clock.monotonicMs();
    // After a stall of the server's own (a disk that took seconds), what the peers sent meanwhile is read first.
    const isLate = nowMs - this.#sweptMs > 2 * SWEEP_MS;
    this.#sweptMs = nowMs;
    if (!isLate) for (const session of this.#sessions) session.checkTimes();
    this.#sweep = this.#sessions.size === 0 ? undefined : this.timers.after(SWEEP_MS, () => this.#checkTimes(), false);
  }
}

/** A listener that throws must not cost others their answers. */
function guarded(onEvent: (event: ServiceEvent) => void): (event: ServiceEvent) => void {
  return (event) => {
    try {
      onEvent(event);
    } catch {
      // It is the listener's own loss.
    }
  };
}
