/**
 * Puts that can be asked again. Of each client the server remembers, in the store itself, the last put that it was asked
 * for under a serial. The record is committed in one transaction with the put: after a cut both are there, or neither. So
 * the answer to "was it done?" survives whatever the put survives. See docs/statefsd.md, "Asking again".
 */
import { assertBytes, assertInteger, CodedError, equalBytes, getU64, setU64, toHex, viewOf } from '../core/index.ts';
import { createSha256, SHA256_BYTES } from '../envelope/index.ts';
import { KEY_ROOT, type StateFs, StateFsError, type Transaction, type TransactionOptions } from '../statefs/index.ts';

/** Where the server keeps what is its own. No policy opens it. */
export const RESERVED_TREE: string = `${KEY_ROOT}.statefsd/`;
/** Clients of one subject that are remembered; then the one that was silent longest gives way. */
export const MAX_CLIENTS_PER_SUBJECT = 64;

/** Under what a put can be asked again. */
export interface OnceNonce {
  /** 8 bytes, not all zero: drawn once by each client. */
  readonly client: Uint8Array;
  /** From 1; grows with each put of `client`. */
  readonly serial: number;
}

export const CLIENT_BYTES = 8;
const ONCE_TREE = `${RESERVED_TREE}once/`;
const FORMAT = 1;
/** Format, 7 zero bytes, client, serial, {@link requestDigest}. */
const RECORD = { format: 0, client: 8, serial: 16, digest: 24 };
const RECORD_BYTES: number = RECORD.digest + SHA256_BYTES;

interface Remembered {
  readonly slot: number;
  readonly serial: number;
  readonly digest: Uint8Array;
}

type RecordContent = Omit<OnceRequest, 'again'>;

interface SubjectSlots {
  /** By the client's bytes in hexadecimal; the one that was heard last stands last. */
  readonly clients: Map<string, Remembered>;
  /** Slots that hold a record which can't be read. */
  unreadable: number;
}

/** A put that can be asked again, as the server sees it. */
export interface OnceRequest extends OnceNonce {
  /** Whether the client says that it asked before. */
  readonly again: boolean;
  /** {@link requestDigest}. */
  readonly digest: Uint8Array;
}

/** What a put under a nonce has to do. */
export type OnceVerdict = 'new' | 'done';

/** What the server remembers of puts that may be asked again. */
export class OnceTable {
  readonly #subjects = new Map<string, SubjectSlots>();
  #store: StateFs;

  /** Reads what `store` holds. */
  constructor(store: StateFs) {
    this.#store = store;
    this.load(store);
  }

  /** Reads it anew, from a store that was opened anew. */
  load(store: StateFs): void {
    this.#store = store;
    this.#subjects.clear();
    const found: { readonly sequence: number; readonly apply: () => void }[] = [];
    for (const key of store.list(ONCE_TREE, Number.MAX_SAFE_INTEGER)) {
      const place = placeOf(key);
      if (place !== undefined) found.push(this.#read(key, place.subject, place.slot));
    }
    // In the order in which they were written, so that the longest silent stands first.
    for (const one of found.sort((a, b) => a.sequence - b.sequence)) one.apply();
  }

  /**
   * Whether a put is new or was done before.
   * @throws StateFsError EINVAL for a serial that was used for another put, or is behind; EIO, told as in doubt by the
   *   caller, where the client was forgotten, so that nobody can tell
   */
  judge(subject: string, nonce: OnceRequest): OnceVerdict {
    const slots = this.#subjects.get(subject);
    const known = slots?.clients.get(toHex(nonce.client));
    if (known === undefined) {
      const mayBeForgotten = slots !== undefined && slots.clients.size + slots.unreadable >= MAX_CLIENTS_PER_SUBJECT;
      if (!nonce.again || !mayBeForgotten) return 'new';
      throw new StateFsError(
        'EIO',
        `serial ${nonce.serial}: this client was forgotten, ${MAX_CLIENTS_PER_SUBJECT} others of ${subject} came since: ` +
          'read the key to see whether it was put',
      );
    }
    if (nonce.serial > known.serial) return 'new';
    if (nonce.serial < known.serial) {
      throw new StateFsError(
        'EINVAL',
        `serial ${nonce.serial}: expected more than ${known.serial}, which this client used already: ask again before the next put`,
      );
    }
    if (!equalBytes(known.digest, nonce.digest)) {
      throw new StateFsError(
        'EINVAL',
        `serial ${nonce.serial}: it was used for another key or payload: draw a new one`,
      );
    }
    return 'done';
  }

  /**
   * Makes a put and the record of it, in one transaction: both take effect, or neither.
   * @param put adds the put to the transaction
   * @throws StateFsError as the store's `transaction`; then nothing was done, and nothing is remembered
   */
  commit(
    subject: string,
    nonce: OnceRequest,
    put: (transaction: Transaction) => void,
    options: TransactionOptions,
  ): void {
    const slots = this.#slotsOf(subject);
    const client = toHex(nonce.client);
    const slot = slots.clients.get(client)?.slot ?? freeSlot(slots);
    this.#store.transaction((transaction) => {
      put(transaction);
      transaction.put(slotKey(subject, slot), encodeRecord(nonce), { meta: { subject, purpose: 'once' } });
    }, options);
    for (const [other, { slot: taken }] of slots.clients) if (taken === slot) slots.clients.delete(other);
    slots.clients.set(client, { slot, serial: nonce.serial, digest: nonce.digest });
  }

  #slotsOf(subject: string): SubjectSlots {
    const existing = this.#subjects.get(subject);
    if (existing !== undefined) return existing;
    const slots: SubjectSlots = { clients: new Map(), unreadable: 0 };
    this.#subjects.set(subject, slots);
    return slots;
  }

  #read(key: string, subject: string, slot: number): { readonly sequence: number; readonly apply: () => void } {
    const slots = this.#slotsOf(subject);
    const forgotten = (): void => {
      slots.unreadable++;
    };
    try {
      const record = decodeRecord(this.#store.get(key));
      const { sequence } = this.#store.stat(key);
      if (record === undefined) return { sequence, apply: forgotten };
      const { client, serial, digest } = record;
      return { sequence, apply: () => slots.clients.set(toHex(client), { slot, serial, digest }) };
    } catch (error) {
      if (!(error instanceof CodedError)) throw error;
      return { sequence: 0, apply: forgotten };
    }
  }
}

/** A slot that nobody has, or that of the client that was silent longest. */
function freeSlot({ clients }: SubjectSlots): number {
  if (clients.size < MAX_CLIENTS_PER_SUBJECT) {
    const taken = new Set([...clients.values()].map(({ slot }) => slot));
    for (let slot = 0; slot < MAX_CLIENTS_PER_SUBJECT; slot++) if (!taken.has(slot)) return slot;
  }
  return (clients.values().next().value as Remembered).slot;
}

function encodeRecord({ client, serial, digest }: RecordContent): Uint8Array {
  const record = new Uint8Array(RECORD_BYTES);
  record[RECORD.format] = FORMAT;
  record.set(client, RECORD.client);
  setU64(viewOf(record), RECORD.serial, serial);
  record.set(digest, RECORD.digest);
  return record;
}

/** @returns undefined for what no server of this version wrote */
function decodeRecord(record: Uint8Array): RecordContent | undefined {
  if (record.length !== RECORD_BYTES || record[RECORD.format] !== FORMAT) return undefined;
  const client = record.slice(RECORD.client, RECORD.client + CLIENT_BYTES);
  const serial = getU64(viewOf(record), RECORD.serial);
  return serial < 1 ? undefined : { client, serial, digest: record.slice(RECORD.digest) };
}

/** What a nonce is bound to: the key, and through the envelope the payload and its metadata. */
export function requestDigest(path: string, envelope: Uint8Array): Uint8Array {
  const encodedPath = new TextEncoder().encode(`${path}\0`);
  return createSha256().update(encodedPath).update(envelope).digest();
}

/** @throws TypeError, RangeError for what is no nonce */
export function assertNonce(nonce: OnceNonce): void {
  assertBytes(nonce.client, 'nonce.client');
  if (nonce.client.length !== CLIENT_BYTES || nonce.client.every((byte) => byte === 0)) {
    throw new RangeError(`nonce.client: expected ${CLIENT_BYTES} bytes that are not all zero`);
  }
  assertInteger(nonce.serial, 'nonce.serial', 1);
}

function slotKey(subject: string, slot: number): string {
  return `${ONCE_TREE}${subject}/${slot}`;
}

function placeOf(key: string): { readonly subject: string; readonly slot: number } | undefined {
  const [subject, number, ...more] = key.slice(ONCE_TREE.length).split('/');
  const slot = Number(number);
  const isPlace =
    subject !== undefined && more.length === 0 && Number.isInteger(slot) && slot < MAX_CLIENTS_PER_SUBJECT;
  return isPlace ? { subject, slot } : undefined;
}
