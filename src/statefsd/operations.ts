/**
 * The wire protocol in one place: operations, their fields and caps, and statuses. The codec works from these tables, and
 * docs/statefsd.md shows them; a test holds the two together. Everything is little-endian.
 */
import { type ErrorCode, invariant } from '../core/index.ts';
import { MAX_ENVELOPE_BYTES } from '../envelope/index.ts';
import { MAX_KEY_BYTES, MAX_PAYLOAD_BYTES } from '../statefs/index.ts';

export const PROTOCOL_VERSION = 1;

/**
 * How a field stands on the wire.
 *
 * - `u32`, `u64`: an unsigned integer; a `u64` is at most 2^53 - 1
 * - `flag`: one byte, 0 or 1
 * - `id`: 8 opaque bytes
 * - `text`: its length as 16 bits, then well-formed UTF-8
 * - `bytes`: their length as 32 bits, then the bytes
 * - `texts`: their count as 32 bits, then as many texts of at most {@link MAX_KEY_BYTES}
 */
export type FieldKind = 'u32' | 'u64' | 'flag' | 'id' | 'text' | 'bytes' | 'texts';

/** A field: name, kind, cap (bytes of a text or of bytes, count of texts; 0 for kinds of one size), meaning. */
export type WireField = readonly [name: string, kind: FieldKind, cap: number, meaning: string];

/** What an operation is applied to: one key, every key that starts with a prefix, or the store as a whole. */
export type OperationScope = 'key' | 'prefix' | 'store';

export interface Operation {
  /** On the wire. */
  readonly code: number;
  readonly scope: OperationScope;
  /** Whether it changes what the store holds. */
  readonly changes: boolean;
  readonly request: readonly WireField[];
  /** Of an answer with status OK; any other has {@link ERROR_FIELDS}. */
  readonly response: readonly WireField[];
  readonly meaning: string;
}

/** What every frame starts with. The length counts what follows it. */
export const HEADER_FIELDS = [
  ['length', 4, 'bytes of the frame after this field'],
  ['version', 1, 'protocol version: 1'],
  ['operation', 1, 'code of the operation, repeated in the answer; 0 where a fault left it unknown'],
  ['status', 1, 'code of the status; 0 in a request'],
  ['reserved', 1, 'zero'],
  ['nonce', 8, "drawn by the client, repeated in the answer; zeros are the server's, for what concerns the connection"],
] as const;

export const OPERATIONS = {
  put_atomic: {
    code: 1,
    scope: 'key',
    changes: true,
    request: [
      ['path', 'text', 255, 'the key'],
      ['client', 'id', 0, 'who asks again, if it has to; zeros without `serial`'],
      ['serial', 'u64', 0, 'grows with each put of `client` that can be asked again; 0 for one that can not'],
      ['again', 'flag', 0, 'asked before, under the same `client` and `serial`'],
      ['deadlineMs', 'u32', 0, "the caller's own deadline, in milliseconds; 0 for the budget's"],
      ['envelope', 'bytes', 332, 'size, SHA-256 and metadata of the payload (docs/envelope.md)'],
      ['payload', 'bytes', 67_108_864, 'the value'],
    ],
    response: [
      [
        'sequence',
        'u64',
        0,
        'number of the group that wrote it; where repeated, of what the key holds now, 0 for nothing',
      ],
      ['repeated', 'flag', 0, 'it had been put already, when first asked for'],
      ['slowMs', 'u32', 0, 'milliseconds that it took, where over the soft budget; otherwise 0'],
    ],
    meaning: 'store a value: the old or the new bytes survive any cut, the new ones once this is answered',
  },
  put: {
    code: 2,
    scope: 'key',
    changes: true,
    request: [
      ['path', 'text', 255, 'the key'],
      ['deadlineMs', 'u32', 0, "the caller's own deadline, in milliseconds; 0 for the budget's"],
      ['envelope', 'bytes', 332, 'size, SHA-256 and metadata of the payload'],
      ['payload', 'bytes', 67_108_864, 'the value'],
    ],
    response: [['slowMs', 'u32', 0, 'as for put_atomic']],
    meaning: 'store a value, whole or not at all, durable only with the next sync, put_atomic or delete',
  },
  get: {
    code: 3,
    scope: 'key',
    changes: false,
    request: [['path', 'text', 255, 'the key']],
    response: [
      ['sequence', 'u64', 0, 'number of the group that wrote it'],
      ['envelope', 'bytes', 332, 'size, SHA-256 and metadata of the payload'],
      ['payload', 'bytes', 67_108_864, 'the value'],
    ],
    meaning: 'read a value, verified by the store and again by the client',
  },
  delete: {
    code: 4,
    scope: 'key',
    changes: true,
    request: [
      ['path', 'text', 255, 'the key'],
      ['deadlineMs', 'u32', 0, "the caller's own deadline, in milliseconds; 0 for the budget's"],
    ],
    response: [
      ['existed', 'flag', 0, 'there was a value'],
      ['slowMs', 'u32', 0, 'as for put_atomic'],
    ],
    meaning: 'delete a value, durably',
  },
  list: {
    code: 5,
    scope: 'prefix',
    changes: false,
    request: [
      ['prefix', 'text', 255, 'start of the keys'],
      ['after', 'text', 255, 'only keys behind this one; empty for all'],
      ['limit', 'u32', 0, 'at most so many; 0 for as many as an answer takes'],
    ],
    response: [
      ['keys', 'texts', 4096, 'those that the subject may get, in the order of their UTF-16 code units'],
      ['more', 'flag', 0, 'there are more: ask again, after the last of these'],
    ],
    meaning: 'list keys',
  },
  sync: {
    code: 6,
    scope: 'store',
    changes: true,
    request: [],
    response: [['slowMs', 'u32', 0, 'as for put_atomic']],
    meaning: 'make every put so far durable',
  },
  stats: {
    code: 7,
    scope: 'store',
    changes: false,
    request: [],
    response: [
      ['keys', 'u64', 0, 'keys in the store'],
      ['freeBytes', 'u64', 0, 'bytes that neither log nor payloads take up'],
      ['regionBytes', 'u64', 0, 'bytes of the active region'],
      ['liveBytes', 'u64', 0, 'bytes that the live records take at most once they are moved'],
      ['lastSequence', 'u64', 0, 'number of the last group'],
      ['epoch', 'u64', 0, 'life of the log'],
      ['damageCount', 'u64', 0, 'damaged places found when the store was opened'],
      ['compactions', 'u64', 0, 'how often compaction was finished since then'],
      ['scrubs', 'u64', 0, 'how often a scrub was finished since then'],
      ['scrubDamaged', 'u64', 0, 'damaged places that the last of them found'],
      ['scrubMended', 'u64', 0, 'those of them that it put right'],
    ],
    meaning: 'figures of the store',
  },
  reopen: {
    code: 8,
    scope: 'store',
    changes: true,
    request: [],
    response: [
      ['keys', 'u64', 0, 'keys that were found'],
      ['lastSequence', 'u64', 0, 'number of the last group'],
    ],
    meaning: 'close and open the store, as after a crash: only where the server was started for tests',
  },
} as const;

export type OperationName = keyof typeof OPERATIONS;

/** The same table, each entry with the type that all have in common. */
const COMMON: Readonly<Record<OperationName, Operation>> = OPERATIONS;

/** Every operation, in the order of the codes. */
export const OPERATION_NAMES: readonly OperationName[] = Object.keys(OPERATIONS) as OperationName[];

/** What an answer has whose status is not OK. */
export const ERROR_FIELDS = [
  ['inDoubt', 'flag', 0, 'whether the change took effect is not known'],
  ['message', 'text', 1024, 'for people: what was expected, what came, how to mend it'],
] as const;

/** A status: its code on the wire, when it is given, and what the caller does. */
export interface Status {
  readonly code: number;
  readonly when: string;
  readonly action: string;
}

/** OK, and an error code of the store for every other status. */
export const STATUSES = {
  OK: { code: 0, when: 'it was done', action: '-' },
  EPERM: {
    code: 1,
    when: "the policy does not allow it; the envelope names another subject than the channel's; a required audit record could not be written",
    action: 'ask the operator for a rule; nothing was changed',
  },
  ENOENT: { code: 2, when: 'there is no such key', action: '-' },
  EINVAL: { code: 3, when: 'a malformed key, prefix or serial', action: 'correct the call' },
  E2BIG: {
    code: 4,
    when: 'payload, key or metadata over its budget',
    action: 'split the value, or ask for a larger budget; nothing was changed',
  },
  EINTEGRITY: {
    code: 5,
    when: 'the payload is not the one that its envelope vouches for; a stored record is damaged',
    action: 'put it again; the old value stays, if it is whole',
  },
  EDEADLINE: {
    code: 6,
    when: 'the deadline had passed before the commit: in the queue, in a required audit sink, or on the disk',
    action: 'ask again; the old value stays',
  },
  ENOSPC: { code: 7, when: 'the store is full', action: 'delete something; the old value stays' },
  EDQUOT: { code: 8, when: 'a quota is used up', action: 'delete something; the old value stays' },
  EROFS: { code: 9, when: 'the store is read-only', action: 'serve it from a medium that can be written' },
  EIO: {
    code: 10,
    when: 'the disk failed; with `inDoubt`, a commit or flush did, and the server takes no more changes',
    action: 'restart the server, which decides what is in doubt, and read',
  },
  EBUSY: {
    code: 11,
    when: 'too many connections, or too many requests that wait',
    action: 'ask again, with back-off; nothing was changed',
  },
  EPROTO: {
    code: 12,
    when: 'no frame of this protocol: version, operation, length, a field, bytes left over',
    action: 'mend or update the client; the connection may be closed',
  },
  EROLLBACK: { code: 13, when: 'reserved: an older state than was seen before', action: '-' },
  ECLOSED: {
    code: 14,
    when: 'the server is shutting down',
    action: 'connect again later; nothing was changed',
  },
} as const;

export type StatusName = keyof typeof STATUSES;

/** Every status, by its name. */
export const STATUS_NAMES: readonly StatusName[] = Object.keys(STATUSES satisfies StatusTable) as StatusName[];
type StatusTable = Readonly<Partial<Record<'OK' | ErrorCode, Status>>>;

/** Bytes of the field kinds that have one size, and of the length before the others. */
export const KIND_BYTES: Readonly<Record<FieldKind, number>> = {
  u32: 4,
  u64: 8,
  flag: 1,
  id: 8,
  text: 2,
  bytes: 4,
  texts: 4,
};

export const HEADER_BYTES = 16;
/** Offsets of the header's fields. */
export const HEADER: Readonly<Record<(typeof HEADER_FIELDS)[number][0], number>> = headerOffsets();
export const NONCE_BYTES = 8;
/** The most bytes that a frame has beside a payload: header, key, envelope, the lengths, a list of keys excepted. */
export const FRAME_OVERHEAD_BYTES = 4096;

function headerOffsets(): Record<(typeof HEADER_FIELDS)[number][0], number> {
  const offsets = { length: 0, version: 0, operation: 0, status: 0, reserved: 0, nonce: 0 };
  let at = 0;
  for (const [name, bytes] of HEADER_FIELDS) {
    offsets[name] = at;
    at += bytes;
  }
  invariant(at === HEADER_BYTES, 'the fields fill the header');
  return offsets;
}

/** The most bytes that fields take up, payloads and lists of keys left out. */
function fixedBytes(fields: readonly WireField[]): number {
  return fields.reduce((sum, [name, kind, cap]) => {
    const variable = name === 'payload' || kind === 'texts' ? 0 : cap;
    return sum + KIND_BYTES[kind] + variable;
  }, HEADER_BYTES);
}

/** Caps that other parts of powercut set. */
const CAPS: Readonly<Record<string, number>> = {
  path: MAX_KEY_BYTES,
  prefix: MAX_KEY_BYTES,
  after: MAX_KEY_BYTES,
  envelope: MAX_ENVELOPE_BYTES,
  payload: MAX_PAYLOAD_BYTES,
};

for (const name of OPERATION_NAMES) {
  const { request, response } = COMMON[name];
  for (const fields of [request, response, ERROR_FIELDS]) {
    invariant(fixedBytes(fields) <= FRAME_OVERHEAD_BYTES, `${name}: its fields fit beside a payload`);
    for (const [field, , cap] of fields) {
      invariant(cap === (CAPS[field] ?? cap), `${name}: ${field} is capped at ${CAPS[field]}`);
    }
  }
}
