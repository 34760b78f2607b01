/**
 * Puts that can be asked again. Of each client the server remembers, in the store itself, the last put that it was asked
 * for under a serial: so the answer to "was it done?" survives whatever the put survives.
 *
 * The record of a put is issued right before the put, and shares its flush. Unsynced groups survive a cut in their order,
 * so after a cut there are the record and the put, neither, or a record that is the very last group of the log: that one
 * put was not done, and {@link OnceTable.load} says so. See docs/statefsd.md, "Asking again".
 */
import {
  assertBytes,
  assertInteger,
  CodedError,
  codeOf,
  equalBytes,
  getU64,
  setU64,
  toHex,
  viewOf,
} from '../core/index.ts';
import { createSha256, SHA256_BYTES } from '../envelope/index.ts';
import { KEY_ROOT, type StateFs, StateFsError } from '../statefs/index.ts';

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
const DONE = 1;
const UNDONE = 2;
/** Format, state, 6 zero bytes, client, serial, {@link requestDigest}. */
const RECORD = { format: 0, state: 1, client: 8, serial: 16, digest: 24 };
const RECORD_BYTES: number = RECORD.digest + SHA256_BYTES;

interface Remembered {
  readonly slot: number;
  readonly serial: number;
  readonly isDone: boolean;
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
      throw new ForgottenError(
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
    return known.isDone ? 'done' : 'new';
  }

  /**
   * Issues the record of a put that comes next. Not durable before the next flush.
   * @returns takes the record back, to be called if the put fails
   * @throws StateFsError as the store's `put`
   */
  begin(subject: string, nonce: OnceRequest): () => void {
    const slots = this.#slotsOf(subject);
    const client = toHex(nonce.client);
    const slot = slots.clients.get(client)?.slot ?? this.#freeSlot(slots);
    this.#write(subject, slot, nonce, DONE);
    this.#remember(slots, client, { slot, serial: nonce.serial, isDone: true, digest: nonce.digest });
    return () => {
      this.#remember(slots, client, { slot, serial: nonce.serial, isDone: false, digest: nonce.digest });
      this.#takeBack(subject, slot, nonce);
    };
  }

  /** The record must not stand before a later group. Where there is no room to write another, there is to delete it. */
  #takeBack(subject: string, slot: number, nonce: RecordContent): void {
    try {
      this.#write(subject, slot, nonce, UNDONE);
    } catch (error) {
      if (codeOf(error) === 'ENOSPC') this.#store.delete(slotKey(subject, slot));
      // Any other error: the store takes no more changes, and so no later group.
      else if (!(error instanceof StateFsError)) throw error;
    }
  }

  #slotsOf(subject: string): SubjectSlots {
    const existing = this.#subjects.get(subject);
    if (existing !== undefined) return existing;
    const slots: SubjectSlots = { clients: new Map(), unreadable: 0 };
    this.#subjects.set(subject, slots);
    return slots;
  }

  /** A slot that nobody has, or that of the client that was silent longest. */
  #freeSlot({ clients }: SubjectSlots): number {
    if (clients.size < MAX_CLIENTS_PER_SUBJECT) {
      const taken = new Set([...clients.values()].map(({ slot }) => slot));
      for (let slot = 0; slot < MAX_CLIENTS_PER_SUBJECT; slot++) if (!taken.has(slot)) return slot;
    }
    const [oldest, remembered] = clients.entries().next().value as [string, Remembered];
    clients.delete(oldest);
    return remembered.slot;
  }

  #remember({ clients }: SubjectSlots, client: string, remembered: Remembered): void {
    clients.delete(client);
    clients.set(client, remembered);
  }

  #write(subject: string, slot: number, content: RecordContent, state: number): void {
    const record = new Uint8Array(RECORD_BYTES);
    record[RECORD.format] = FORMAT;
    record[RECORD.state] = state;
    record.set(content.client, RECORD.client);
    setU64(viewOf(record), RECORD.serial, content.serial);
    record.set(content.digest, RECORD.digest);
    this.#store.put(slotKey(subject, slot), record, { meta: { subject, purpose: 'once' } });
  }

  #read(key: string, subject: string, slot: number): { readonly sequence: number; readonly apply: () => void } {
    const slots = this.#slotsOf(subject);
    let record: Uint8Array;
    let sequence: number;
    try {
      record = this.#store.get(key);
      ({ sequence } = this.#store.stat(key));
    } catch (error) {
      if (!(error instanceof CodedError)) throw error;
      slots.unreadable++;
      return { sequence: 0, apply: () => {} };
    }
    if (record.length !== RECORD_BYTES || record[RECORD.format] !== FORMAT) {
      slots.unreadable++;
      return { sequence, apply: () => {} };
    }
    // The put that should follow is not there: the cut came between the two.
    const isLast = sequence === this.#store.stats().lastSequence;
    const isDone = record[RECORD.state] === DONE && !isLast;
    const client = record.slice(RECORD.client, RECORD.client + CLIENT_BYTES);
    const serial = getU64(viewOf(record), RECORD.serial);
    const digest = record.slice(RECORD.digest);
    const apply = (): void => {
      this.#remember(slots, toHex(client), { slot, serial, isDone, digest });
      // Put behind it, or a group that follows would make it look done when the store is opened next.
      if (isLast && record[RECORD.state] === DONE) this.#write(subject, slot, { client, serial, digest }, UNDONE);
    };
    return { sequence, apply };
  }
}

/** The put may have been done or not, and the server can't tell. */
export class ForgottenError extends StateFsError {}

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
