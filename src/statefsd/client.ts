import {
  assertBytes,
  assertInteger,
  assertString,
  type Clock,
  CodedError,
  getU64,
  Sfc32,
  systemClock,
  systemTimers,
  type Timers,
  viewOf,
} from '../core/index.ts';
import { decode, type EnvelopeMetadata, encode, verify, wrap } from '../envelope/index.ts';
import { KEY_ROOT, MAX_KEY_BYTES, MAX_PAYLOAD_BYTES } from '../statefs/index.ts';
import type { AbiFilter } from './abi-filter.ts';
import type { Connector } from './channel.ts';
import { StateFsClientError } from './client-error.ts';
import { drawClientId } from './client-id.ts';
import { encodeRequest, type RequestFields, type Response, type ResponseFields } from './codec.ts';
import { type BackOff, Link, type OnLoss } from './link.ts';
import { assertNonce, CLIENT_BYTES, type OnceNonce } from './once.ts';
import type { OperationName, StatusName } from './operations.ts';
import { OneAtATime } from './state-port.ts';

/** What a client tells while it works. */
export type ClientEvent =
  | { readonly type: 'connected' }
  /** The connection ended, or none came about. The client connects again by itself while anything waits. */
  | { readonly type: 'lost'; readonly reason: string }
  /** A change took longer than the soft budget of the server. It succeeded. */
  | { readonly type: 'slow'; readonly operation: OperationName; readonly path: string; readonly elapsedMs: number };

export interface ClientOptions {
  /** `unixSocket(path)`, `inProcess(service, subject)`, or one of your own. */
  readonly connect: Connector;
  /** Asked before anything is sent: what it does not allow fails with EPERM at once. Default: everything is sent. */
  readonly filter?: AbiFilter;
  /** How long a call may take in all, with every new connection. Milliseconds, default 30 s. */
  readonly timeoutMs?: number;
  /** Calls that may wait at a time. Default 1024. */
  readonly maxPending?: number;
  readonly backOff?: Partial<BackOff>;
  /** 8 bytes under which this client's puts can be asked again. Default: drawn. */
  readonly clientId?: Uint8Array;
  readonly clock?: Clock;
  readonly timers?: Timers;
  readonly onEvent?: (event: ClientEvent) => void;
}

/** What goes into the envelope beside the payload. The subject is the channel's: the server fills it in. */
export type PutMetadata = Partial<Pick<EnvelopeMetadata, 'purpose' | 'ts' | 'subject'>>;

export interface PutAtomicOptions {
  /**
   * Makes the put one that can be asked again: if the connection is lost, the client does, and the server puts it once.
   * `true` draws a nonce; one that you drew yourself with {@link StateFsClient.drawNonce} you can keep and use after a
   * restart of your program, with `again`. Such puts of one client are sent one after the other. Default: none; a put
   * whose answer is lost fails, in doubt.
   */
  readonly nonce?: OnceNonce | true;
  /** It was asked before under this nonce, by an earlier run of the program. */
  readonly again?: boolean;
  /** Milliseconds from its arrival at the server to the commit; then EDEADLINE. Can only tighten the budget. */
  readonly deadlineMs?: number;
}

export interface PutOptions {
  readonly meta?: PutMetadata;
  /**
   * False: stored whole or not at all, but durable only with the next `sync`, `putAtomic` or `delete`. True, the default:
   * as `putAtomic`.
   */
  readonly atomic?: boolean;
  readonly deadlineMs?: number;
}

/** How a put went. */
export interface PutReceipt {
  /** Number of the group that wrote it; undefined for a put that is not durable yet. */
  readonly sequence: number | undefined;
  /** It had been put already when it was first asked for. */
  readonly repeated: boolean;
  /** Milliseconds that it took, where over the soft budget; otherwise 0. */
  readonly slowMs: number;
}

/** A value with what vouches for it. */
export interface StoredValue {
  readonly payload: Uint8Array;
  readonly digest: Uint8Array;
  readonly meta: EnvelopeMetadata;
  readonly sequence: number;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const DEFAULT_BACK_OFF: BackOff = { firstMs: 20, lastMs: 2000 };
const NO_CLIENT = new Uint8Array(CLIENT_BYTES);
const MAX_DEADLINE_MS = 0xffff_ffff;

/**
 * A client of statefsd. Every method rejects with a {@link StateFsClientError}, whose `code` is the server's and whose
 * `inDoubt` says whether the change may have happened; a wrong argument is a TypeError or RangeError.
 */
export class StateFsClient {
  readonly #link: Link;
  readonly #filter: AbiFilter | undefined;
  readonly #clock: Clock;
  readonly #clientId: Uint8Array;
  readonly #onEvent: (event: ClientEvent) => void;
  #serial = 0;
  /** Puts with a nonce go one after the other: the server remembers only the last of a client. */
  readonly #inTurn: OneAtATime = new OneAtATime();
  /** Puts that were acknowledged and are not durable yet. */
  #unsyncedCount = 0;
  /** Such puts, and the connection was lost since: nobody knows whether the server was, too. */
  #mayHaveLostPuts = false;

  /** Connects with the first call. @throws TypeError, RangeError for what are no options */
  constructor(options: ClientOptions) {
    if (typeof options?.connect !== 'function')
      throw new TypeError('connect: expected a connector such as unixSocket(path)');
    const { timeoutMs = DEFAULT_TIMEOUT_MS, maxPending = 1024, clientId = drawClientId() } = options;
    assertInteger(timeoutMs, 'timeoutMs', 1);
    assertInteger(maxPending, 'maxPending', 1);
    assertNonce({ client: clientId, serial: 1 });
    this.#filter = options.filter;
    this.#clock = options.clock ?? systemClock;
    this.#clientId = new Uint8Array(clientId);
    this.#onEvent = options.onEvent ?? (() => {});
    this.#link = new Link({
      connect: options.connect,
      timers: options.timers ?? systemTimers,
      // Only the jitter of the back-off: its seed is the client's own, so no two clients keep step.
      prng: new Sfc32(Math.max(0, getU64(viewOf(clientId), 0))),
      backOff: { ...DEFAULT_BACK_OFF, ...options.backOff },
      timeoutMs,
      maxPending,
      onConnected: () => this.#onEvent({ type: 'connected' }),
      onLost: (reason) => this.#lost(reason),
    });
  }

  /** A nonce that this client has not used: see {@link PutAtomicOptions.nonce}. */
  drawNonce(): OnceNonce {
    return { client: new Uint8Array(this.#clientId), serial: ++this.#serial };
  }

  /**
   * Stores `payload` under `path`: the old or the new bytes survive any power cut, the new ones once this resolves.
   * @param payload copied before this returns
   */
  async putAtomic(
    path: string,
    payload: Uint8Array,
    meta: PutMetadata = {},
    options: PutAtomicOptions = {},
  ): Promise<PutReceipt> {
    const { again = false, deadlineMs = 0 } = options;
    this.#checkPut(path, payload, deadlineMs);
    this.#ask('put_atomic', path);
    const nonce = options.nonce === true ? this.drawNonce() : options.nonce;
    if (nonce !== undefined) assertNonce(nonce);
    if (again && nonce === undefined) throw new TypeError('again: expected the nonce under which it was asked before');
    const { client, serial } = nonce ?? { client: NO_CLIENT, serial: 0 };
    const fields = { path, client, serial, again, deadlineMs, envelope: this.#envelope(payload, meta), payload };
    if (nonce === undefined) return this.#received('put_atomic', path, await this.#call('put_atomic', 'doubt', fields));
    const own = { ...fields, payload: new Uint8Array(payload) };
    const response = await this.#inTurn.run(() => this.#call('put_atomic', 'again', own));
    return this.#received('put_atomic', path, response);
  }

  /**
   * Stores `payload` under `path`, as {@link putAtomic} does.
   * @deprecated Use `putAtomic`. With `{ atomic: false }` the value may be lost in a power cut after this resolved, until
   *   `sync` has: for what can be made anew, and only for that.
   */
  async put(path: string, payload: Uint8Array, options: PutOptions = {}): Promise<PutReceipt> {
    const { meta = {}, atomic = true, deadlineMs = 0 } = options;
    if (atomic) return this.putAtomic(path, payload, meta, { deadlineMs });
    this.#checkPut(path, payload, deadlineMs);
    this.#ask('put', path);
    const fields = { path, deadlineMs, envelope: this.#envelope(payload, meta), payload };
    return this.#received('put', path, await this.#call('put', 'doubt', fields));
  }

  /** The value of `path`, verified against its digest on this side too. */
  async get(path: string): Promise<Uint8Array> {
    return (await this.read(path)).payload;
  }

  /** The value of `path`, with who put it, what for and when. */
  async read(path: string): Promise<StoredValue> {
    assertString(path, 'path');
    this.#ask('get', path);
    const { sequence, envelope, payload } = await this.#call('get', 'repeat', { path });
    try {
      const decoded = decode(envelope);
      verify(decoded, payload);
      const { digest, meta } = decoded;
      // Not a view of the whole answer: that would keep it alive.
      return { payload: new Uint8Array(payload), digest, meta, sequence };
    } catch (cause) {
      if (!(cause instanceof CodedError)) throw cause;
      throw new StateFsClientError('EINTEGRITY', `${path}: what arrived is damaged: read it again`, false, { cause });
    }
  }

  /** Deletes `path`, durably. @returns false where there was nothing to delete */
  async delete(path: string, options: { readonly deadlineMs?: number } = {}): Promise<boolean> {
    const { deadlineMs = 0 } = options;
    assertString(path, 'path');
    assertInteger(deadlineMs, 'deadlineMs', 0, MAX_DEADLINE_MS);
    this.#ask('delete', path);
    const response = await this.#call('delete', 'doubt', { path, deadlineMs });
    this.#received('delete', path, { sequence: 0, repeated: false, ...response });
    return response.existed;
  }

  /** Keys that start with `prefix` and that the subject may read, in the order of their UTF-16 code units. */
  async list(prefix: string = KEY_ROOT, limit: number = Number.MAX_SAFE_INTEGER): Promise<string[]> {
    assertString(prefix, 'prefix');
    assertInteger(limit, 'limit', 0);
    this.#ask('list', prefix);
    const found: string[] = [];
    let after = '';
    while (found.length < limit) {
      const page = Math.min(limit - found.length, MAX_DEADLINE_MS);
      const { keys, more } = await this.#call('list', 'repeat', { prefix, after, limit: page });
      for (const key of keys) found.push(key);
      if (!more || keys.length === 0) break;
      after = keys.at(-1) as string;
    }
    return found;
  }

  /**
   * Makes every put of this client durable.
   * @throws StateFsClientError EIO, in doubt, where the connection was lost after puts that were not durable: they may be
   *   lost with the server; put them again
   */
  async sync(): Promise<void> {
    this.#ask('sync', '');
    this.#checkNoneLost();
    const response = await this.#call('sync', 'doubt', {});
    this.#checkNoneLost();
    this.#received('sync', '', { sequence: 0, repeated: false, ...response });
  }

  /** Figures of the store. */
  async stats(): Promise<ResponseFields<'stats'>> {
    this.#ask('stats', '');
    return this.#call('stats', 'repeat', {});
  }

  /** Has the server open its store anew: only where it was started for tests. */
  async reopen(): Promise<ResponseFields<'reopen'>> {
    this.#ask('reopen', '');
    return this.#call('reopen', 'doubt', {});
  }

  /** Gives up the connection. What waits is rejected with ECLOSED. Closing twice is allowed. */
  close(): void {
    this.#link.close();
  }

  async #call<Name extends OperationName>(
    operation: Name,
    onLoss: OnLoss,
    fields: RequestFields<Name>,
  ): Promise<ResponseFields<Name>> {
    const response = await this.#link.call(operation, onLoss, (nonce) => encodeRequest(operation, nonce, fields));
    if (response.status === 'OK' && response.operation === operation) {
      return response.fields as unknown as ResponseFields<Name>;
    }
    throw errorOf(operation, response);
  }

  #received(
    operation: OperationName,
    path: string,
    response: { readonly sequence?: number; readonly repeated?: boolean; readonly slowMs: number },
  ): PutReceipt {
    const { sequence, repeated = false, slowMs } = response;
    if (operation === 'put') this.#unsyncedCount++;
    else this.#unsyncedCount = 0;
    if (slowMs > 0) this.#onEvent({ type: 'slow', operation, path, elapsedMs: slowMs });
    return { sequence, repeated, slowMs };
  }

  #lost(reason: string): void {
    if (this.#unsyncedCount > 0) this.#mayHaveLostPuts = true;
    this.#unsyncedCount = 0;
    this.#onEvent({ type: 'lost', reason });
  }

  #checkNoneLost(): void {
    if (!this.#mayHaveLostPuts) return;
    this.#mayHaveLostPuts = false;
    throw new StateFsClientError(
      'EIO',
      'sync: the connection was lost after puts that were not durable yet, and they may be: put them again',
      true,
    );
  }

  #envelope(payload: Uint8Array, { subject = '', purpose = '', ts = this.#clock.wallMs() }: PutMetadata): Uint8Array {
    try {
      return encode(wrap(payload, { subject, purpose, ts }));
    } catch (error) {
      if (!(error instanceof CodedError)) throw error;
      throw new StateFsClientError(error.code, error.message, false, { cause: error });
    }
  }

  #checkPut(path: string, payload: Uint8Array, deadlineMs: number): void {
    assertString(path, 'path');
    assertBytes(payload, 'payload');
    assertInteger(deadlineMs, 'deadlineMs', 0, MAX_DEADLINE_MS);
    if (payload.length <= MAX_PAYLOAD_BYTES) return;
    throw new StateFsClientError(
      'E2BIG',
      `payload: expected at most ${MAX_PAYLOAD_BYTES} bytes, got ${payload.length}: split it`,
    );
  }

  /** The path is one that can be sent, and the guardrail lets it pass. */
  #ask(operation: OperationName, path: string): void {
    if (path.length > MAX_KEY_BYTES || Buffer.byteLength(path) > MAX_KEY_BYTES) {
      throw new StateFsClientError('E2BIG', `path: expected at most ${MAX_KEY_BYTES} bytes of UTF-8: shorten it`);
    }
    if (!path.isWellFormed()) throw new StateFsClientError('EINVAL', 'path: expected well-formed text');
    if (this.#filter === undefined || this.#filter.allows(operation, path)) return;
    throw new StateFsClientError(
      'EPERM',
      `${`${operation} ${path}`.trim()}: the ABI filter of ${this.#filter.subject} does not allow it: nothing was sent`,
    );
  }
}

function errorOf(operation: OperationName, response: Response): StateFsClientError {
  const { status, fields } = response;
  if (status === 'OK')
    return new StateFsClientError('EPROTO', `${operation}: the answer was to ${response.operation}`, true);
  const code = status as Exclude<StatusName, 'OK'>;
  return new StateFsClientError(code, String(fields['message']), fields['inDoubt'] === true);
}
