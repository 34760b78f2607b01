import { type Clock, equalBytes } from '../core/index.ts';
import { decode, type Envelope, encode, verify } from '../envelope/index.ts';
import {
  type Budgets,
  type CommitMode,
  isKey,
  type PutOptions,
  type StateFs,
  type Transaction,
} from '../statefs/index.ts';
import type { Audit } from './audit.ts';
import type { Authority } from './authority.ts';
import type { RequestFields } from './codec.ts';
import { isChange, type Job, refuse } from './job.ts';
import { CLIENT_BYTES, type OnceRequest, OnceTable, RESERVED_TREE, requestDigest } from './once.ts';
import { OPERATIONS, type OperationName } from './operations.ts';

/** What tells of the server's work. Fields are stable. */
export type ServiceEvent =
  /** A request took longer than its soft budget. It succeeded all the same, or its code says why not. */
  | {
      readonly type: 'slow';
      readonly subject: string;
      readonly operation: OperationName;
      readonly path: string;
      readonly elapsedMs: number;
      readonly budgetMs: number;
    }
  /** The server closed a connection. */
  | { readonly type: 'closed'; readonly subject: string; readonly reason: string }
  /** A defect of the server's own was met; the request was answered with EIO. */
  | { readonly type: 'defect'; readonly error: unknown };

export interface ExecutorOptions {
  readonly store: StateFs;
  /** Takes the store that is served, and returns the one to serve from now on. Undefined: `reopen` is refused. */
  readonly reopen: ((store: StateFs) => StateFs) | undefined;
  readonly authority: Authority;
  readonly audit: Audit;
  readonly clock: Clock;
  /** Where the policy has no budget. */
  readonly budgets: Budgets;
  readonly commit: CommitMode;
  readonly onEvent: (event: ServiceEvent) => void;
}

const MAX_LIST_KEYS = OPERATIONS.list.response[0][2];
/** Of the keys in one answer to `list`. */
const MAX_LIST_BYTES = 256 * 1024;

/** Carries out requests, one at a time and to the end: nothing comes between a decision and what it decided. */
export class Executor {
  readonly #options: ExecutorOptions;
  readonly #once: OnceTable;
  #store: StateFs;

  constructor(options: ExecutorOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#once = new OnceTable(options.store);
  }

  get store(): StateFs {
    return this.#store;
  }

  /** Carries `job` out and settles it, unless it awaits a flush. Never throws. */
  run(job: Job): void {
    const wasLatched = this.#store.isLatched;
    try {
      this.#dispatch(job);
    } catch (error) {
      const isLatchedNow = this.#store.isLatched && !wasLatched;
      this.#fail(job, error, (isLatchedNow && isChange(job.request.operation)) || isEarlierInDoubt(job, wasLatched));
    }
  }

  /**
   * Makes everything durable that was put so far.
   * @returns the error, where that failed
   */
  sync(): unknown {
    try {
      this.#store.sync();
      return undefined;
    } catch (error) {
      return error;
    }
  }

  /** Settles a job anew that was to be answered after a flush, which failed. */
  failSync(job: Job, error: unknown): void {
    const { operation } = job.request;
    // A sync has flushed on its own.
    if (!job.isDone || operation === 'sync') return;
    this.#fail(job, error, isChange(operation));
  }

  /** Tells the audit, and who listens, how `job` ended. @returns the frame of its answer */
  finish(job: Job): Uint8Array {
    const { audit, onEvent, clock, budgets } = this.#options;
    const elapsedMs = clock.monotonicMs() - job.arrivedMs;
    const budgetMs = (job.budgets ?? budgets).softLatencyMs;
    const isSlow = elapsedMs > budgetMs;
    audit.outcome(job.auditEntry(elapsedMs));
    if (isSlow) {
      const { subject, path } = job;
      onEvent({ type: 'slow', subject, operation: job.request.operation, path, elapsedMs, budgetMs });
    }
    return job.answer(isSlow ? elapsedMs : 0);
  }

  #fail(job: Job, error: unknown, inDoubt: boolean): void {
    if (!job.fail(error, inDoubt)) this.#options.onEvent({ type: 'defect', error });
  }

  #dispatch(job: Job): void {
    const { request } = job;
    this.#decide(job);
    switch (request.operation) {
      case 'put_atomic':
        this.#putAtomic(job, request.fields);
        break;
      case 'put':
        this.#put(job, request.fields);
        break;
      case 'get':
        this.#get(job, request.fields.path);
        break;
      case 'delete':
        this.#delete(job, request.fields);
        break;
      case 'list':
        this.#list(job, request.fields);
        break;
      case 'sync':
        this.#store.sync();
        job.succeed('sync', { slowMs: 0 });
        break;
      case 'stats':
        this.#stats(job);
        break;
      case 'reopen':
        this.#reopen(job);
    }
  }

  /** Asks the authority. @throws StateFsError EPERM, EINVAL */
  #decide(job: Job): void {
    const { operation } = job.request;
    const { path, subject } = job;
    if ('path' in job.request.fields && !isKey(path)) {
      refuse('EINVAL', `path: expected a key such as /state/name, got ${JSON.stringify(path)}`);
    }
    if (path.startsWith(RESERVED_TREE)) {
      job.decision = 'deny';
      refuse('EPERM', `${RESERVED_TREE} is the server's own: use another path`);
    }
    const { allowed, rule } = this.#options.authority.decide(subject, operation, path);
    job.decision = allowed ? 'allow' : 'deny';
    if (!allowed) refuse('EPERM', `${subject} may not ${operation} ${path}: ${rule}`.trim());
    job.budgets = this.#budgetsFor(subject, path);
  }

  #budgetsFor(subject: string, path: string): Budgets {
    const { authority, budgets } = this.#options;
    const own = authority.budgetFor(subject, path);
    if (own === undefined) return budgets;
    return {
      payloadBytes: own.payloadBytes ?? budgets.payloadBytes,
      softLatencyMs: own.softLatencyMs ?? budgets.softLatencyMs,
      deadlineMs: own.deadlineMs ?? budgets.deadlineMs,
    };
  }

  #putAtomic(job: Job, fields: RequestFields<'put_atomic'>): void {
    const envelope = this.#checkPut(job, fields);
    const { path, payload } = fields;
    const once = onceOf(fields);
    if (once !== undefined) {
      const verdict = this.#once.judge(job.subject, once);
      job.isEarlierKnown = true;
      if (verdict === 'done') {
        this.#repeat(job, path);
        return;
      }
    }
    this.#intend(job);
    this.#checkDeadline(job, fields.deadlineMs);
    const options = this.#putOptions(job, envelope, fields.deadlineMs);
    if (once === undefined) this.#write(path, payload, options);
    else this.#writeOnce(job.subject, once, path, payload, options);
    job.awaitsSync = true;
    job.succeed('put_atomic', { sequence: this.#store.stats().lastSequence, repeated: false, slowMs: 0 });
  }

  /** Durable with the next flush; in ordered mode, on return. */
  #write(path: string, payload: Uint8Array, options: PutOptions): void {
    if (this.#options.commit === 'ordered') this.#store.putAtomic(path, payload, { ...options, commit: 'ordered' });
    else this.#store.put(path, payload, options);
  }

  /** The same, with the record by which it is known when it is asked for again. */
  #writeOnce(subject: string, once: OnceRequest, path: string, payload: Uint8Array, options: PutOptions): void {
    const { commit } = this.#options;
    const { meta = {}, deadlineMs = Number.POSITIVE_INFINITY } = options;
    const put = (transaction: Transaction): void => transaction.put(path, payload, { meta });
    this.#once.commit(subject, once, put, { commit, durable: commit === 'ordered', deadlineMs });
  }

  /** It was done when it was first asked for. The flush may still be due, where both come in one batch. */
  #repeat(job: Job, path: string): void {
    job.awaitsSync = true;
    const sequence = this.#store.has(path) ? this.#store.stat(path).sequence : 0;
    job.succeed('put_atomic', { sequence, repeated: true, slowMs: 0 });
  }

  #put(job: Job, fields: RequestFields<'put'>): void {
    const envelope = this.#checkPut(job, fields);
    this.#intend(job);
    this.#checkDeadline(job, fields.deadlineMs);
    this.#store.put(fields.path, fields.payload, this.#putOptions(job, envelope, fields.deadlineMs));
    job.succeed('put', { slowMs: 0 });
  }

  /**
   * Holds a put to its budgets and its envelope.
   * @throws StateFsError E2BIG, EINTEGRITY, EPERM, EDEADLINE, EINVAL
   */
  #checkPut(job: Job, fields: RequestFields<'put'>): Envelope {
    const { payload } = fields;
    const { payloadBytes } = job.budgets as Budgets;
    job.sizeBytes = job.oversizeBytes ?? payload.length;
    if (job.sizeBytes > payloadBytes) {
      const size = job.oversizeBytes === undefined ? `${payload.length}` : `a frame of ${job.oversizeBytes}`;
      refuse(
        'E2BIG',
        `payload: expected at most ${payloadBytes} bytes, got ${size}: split it, or ask for a larger budget`,
      );
    }
    const envelope = decode(fields.envelope);
    verify(envelope, payload);
    job.digest = envelope.digest;
    const claimed = envelope.meta.subject;
    if (claimed !== '' && claimed !== job.subject) {
      job.decision = 'deny';
      refuse(
        'EPERM',
        `envelope: expected no subject or ${job.subject}, whose channel this is, got ${JSON.stringify(claimed)}`,
      );
    }
    this.#checkDeadline(job, fields.deadlineMs);
    return envelope;
  }

  #putOptions(job: Job, envelope: Envelope, deadlineMs: number): PutOptions {
    const { purpose, ts } = envelope.meta;
    return { meta: { subject: job.subject, purpose, ts }, deadlineMs: this.#remainingMs(job, deadlineMs) };
  }

  /** Gives the change to a required audit sink, before it is made. */
  #intend(job: Job): void {
    this.#options.audit.intent(job.auditEntry(0, false));
  }

  /** @throws StateFsError EDEADLINE */
  #checkDeadline(job: Job, ownMs: number): void {
    if (this.#remainingMs(job, ownMs) >= 0) return;
    const elapsedMs = this.#options.clock.monotonicMs() - job.arrivedMs;
    refuse(
      'EDEADLINE',
      `${job.request.operation}: expected to commit within ${this.#deadlineMs(job, ownMs)} ms of its arrival, but ${elapsedMs} had passed: the old value stays`,
    );
  }

  /** The tighter one of the caller's deadline and the budget's. */
  #deadlineMs(job: Job, ownMs: number): number {
    const { deadlineMs } = job.budgets as Budgets;
    return ownMs === 0 ? deadlineMs : Math.min(ownMs, deadlineMs);
  }

  #remainingMs(job: Job, ownMs: number): number {
    return this.#deadlineMs(job, ownMs) - (this.#options.clock.monotonicMs() - job.arrivedMs);
  }

  #get(job: Job, path: string): void {
    const { payloadBytes, digest, meta, sequence } = this.#store.stat(path);
    const payload = this.#store.get(path);
    const envelope = encode({ version: 1, algorithm: 'sha-256', payloadBytes, digest, meta });
    job.sizeBytes = payloadBytes;
    job.digest = digest;
    job.succeed('get', { sequence, envelope, payload });
  }

  #delete(job: Job, { path, deadlineMs }: RequestFields<'delete'>): void {
    this.#checkDeadline(job, deadlineMs);
    this.#intend(job);
    this.#checkDeadline(job, deadlineMs);
    const { commit } = this.#options;
    const options = { commit, durable: commit === 'ordered', deadlineMs: this.#remainingMs(job, deadlineMs) };
    const existed = this.#store.delete(path, options);
    job.awaitsSync = true;
    job.succeed('delete', { existed, slowMs: 0 });
  }

  #list(job: Job, { prefix, after, limit }: RequestFields<'list'>): void {
    const { authority } = this.#options;
    const maximum = limit === 0 ? MAX_LIST_KEYS : Math.min(limit, MAX_LIST_KEYS);
    const keys: string[] = [];
    let bytes = 0;
    let more = false;
    for (const key of this.#store.list(prefix, Number.MAX_SAFE_INTEGER)) {
      if (key <= after || key.startsWith(RESERVED_TREE) || !authority.mayRead(job.subject, key)) continue;
      bytes += Buffer.byteLength(key);
      more = keys.length === maximum || bytes > MAX_LIST_BYTES;
      if (more) break;
      keys.push(key);
    }
    job.succeed('list', { keys, more });
  }

  #stats(job: Job): void {
    const { damage, lastScrub, ...stats } = this.#store.stats();
    job.succeed('stats', {
      keys: stats.keys,
      freeBytes: stats.freeBytes,
      regionBytes: stats.regionBytes,
      liveBytes: stats.liveBytes,
      lastSequence: stats.lastSequence,
      epoch: stats.epoch,
      damageCount: damage.length,
      compactions: stats.compactions,
      scrubs: stats.scrubs,
      scrubDamaged: lastScrub?.damaged ?? 0,
      scrubMended: lastScrub?.mended ?? 0,
    });
  }

  #reopen(job: Job): void {
    const { reopen } = this.#options;
    if (reopen === undefined) refuse('EPERM', 'reopen: the server was not started for tests');
    this.#store = reopen(this.#store);
    this.#once.load(this.#store);
    const { keys, lastSequence } = this.#store.stats();
    job.succeed('reopen', { keys, lastSequence });
  }
}

const NO_CLIENT = new Uint8Array(CLIENT_BYTES);

/**
 * Whether a refusal leaves open what became of the put when it was first asked for: it came before the server looked, or
 * the store had failed in a commit, which may have been that one.
 */
function isEarlierInDoubt({ request, isEarlierKnown }: Job, wasLatched: boolean): boolean {
  return request.operation === 'put_atomic' && request.fields.again && (!isEarlierKnown || wasLatched);
}

/**
 * Under what a put can be asked again, if it can.
 * @throws StateFsError EINVAL for what makes no sense together
 */
function onceOf({ path, envelope, client, serial, again }: RequestFields<'put_atomic'>): OnceRequest | undefined {
  const hasClient = !equalBytes(client, NO_CLIENT);
  if (serial === 0 && (again || hasClient)) refuse('EINVAL', 'serial: expected one beside a client, and to ask again');
  if (serial > 0 && !hasClient)
    refuse('EINVAL', `client: expected 8 bytes that are not all zero beside serial ${serial}`);
  // A copy: the frame is not to be kept beyond the answer.
  return serial === 0
    ? undefined
    : { client: new Uint8Array(client), serial, again, digest: requestDigest(path, envelope) };
}
