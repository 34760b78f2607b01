/** Frames to bytes and back, by the tables of operations.ts. A fault of the peer's is a value here, never an exception. */
import { getU64, invariant, messageOf, setU64, viewOf } from '../core/index.ts';
import { MAX_KEY_BYTES } from '../statefs/index.ts';
import {
  ERROR_FIELDS,
  type FieldKind,
  HEADER,
  HEADER_BYTES,
  KIND_BYTES,
  OPERATION_NAMES,
  OPERATIONS,
  type Operation,
  type OperationName,
  PROTOCOL_VERSION,
  STATUS_NAMES,
  STATUSES,
  type StatusName,
  type WireField,
} from './operations.ts';

type ValueOf<Kind extends FieldKind> = Kind extends 'text'
  ? string
  : Kind extends 'texts'
    ? readonly string[]
    : Kind extends 'flag'
      ? boolean
      : Kind extends 'u32' | 'u64'
        ? number
        : Uint8Array;

/** The fields of a table as an object. Bytes are views of the frame that they were read from. */
export type ValuesOf<Fields extends readonly WireField[]> = {
  readonly [Field in Fields[number] as Field[0]]: ValueOf<Field[1]>;
};

export type RequestFields<Name extends OperationName> = ValuesOf<(typeof OPERATIONS)[Name]['request']>;
export type ResponseFields<Name extends OperationName> = ValuesOf<(typeof OPERATIONS)[Name]['response']>;

/** A request as it was read: one of these for each operation. */
export type Request = {
  [Name in OperationName]: {
    readonly operation: Name;
    /** What the answer repeats. Never 0. */
    readonly nonce: number;
    readonly fields: RequestFields<Name>;
  };
}[OperationName];

/** A frame that is no request: what the answer has to say, and to whom. */
export interface Fault {
  /** 0 where it could not be read. */
  readonly nonce: number;
  readonly operation: OperationName | undefined;
  readonly message: string;
  /** The bytes after this frame can't be told apart: the connection has to be closed. */
  readonly isFatal: boolean;
}

/** An answer as it was read. */
export interface Response {
  readonly nonce: number;
  /** Undefined where the server could not tell. */
  readonly operation: OperationName | undefined;
  readonly status: StatusName;
  /** Those of the operation where the status is OK, otherwise those of an error. */
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface ErrorAnswer {
  readonly status: Exclude<StatusName, 'OK'>;
  readonly inDoubt: boolean;
  readonly message: string;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const NAME_BY_CODE: ReadonlyMap<number, OperationName> = new Map(
  OPERATION_NAMES.map((name) => [OPERATIONS[name].code, name]),
);
const STATUS_BY_CODE: ReadonlyMap<number, StatusName> = new Map(
  STATUS_NAMES.map((name) => [STATUSES[name].code, name]),
);
const LENGTH_BYTES = 4;
const MESSAGE_CAP = ERROR_FIELDS[1][2];

/**
 * A request as one frame.
 * @returns a new array, the caller's
 */
export function encodeRequest<Name extends OperationName>(
  operation: Name,
  nonce: number,
  fields: RequestFields<Name>,
): Uint8Array {
  const { code, request }: Operation = OPERATIONS[operation];
  return encodeFrame(code, STATUSES.OK.code, nonce, request, fields);
}

/** An answer with status OK, as one frame: a new array, the caller's. */
export function encodeResponse<Name extends OperationName>(
  operation: Name,
  nonce: number,
  fields: ResponseFields<Name>,
): Uint8Array {
  const { code, response }: Operation = OPERATIONS[operation];
  return encodeFrame(code, STATUSES.OK.code, nonce, response, fields);
}

/** Any other answer, as one frame: a new array, the caller's. Its message is cut to its cap. */
export function encodeError(operation: OperationName | undefined, nonce: number, error: ErrorAnswer): Uint8Array {
  const code = operation === undefined ? 0 : OPERATIONS[operation].code;
  const message = cutText(error.message, MESSAGE_CAP);
  return encodeFrame(code, STATUSES[error.status].code, nonce, ERROR_FIELDS, { inDoubt: error.inDoubt, message });
}

/**
 * Reads one whole frame as a request. With `cut`, only its head is there and it ends in a payload that is not:
 * the payload's field is then empty.
 */
export function decodeRequest(frame: Uint8Array, cut = false): Request | Fault {
  const view = viewOf(frame);
  const nonce = Math.max(0, getU64(view, HEADER.nonce));
  const version = view.getUint8(HEADER.version);
  if (version !== PROTOCOL_VERSION) {
    const message = `version: expected ${PROTOCOL_VERSION}, got ${version}: update the client or the server`;
    return { nonce, operation: undefined, message, isFatal: true };
  }
  const operation = NAME_BY_CODE.get(view.getUint8(HEADER.operation));
  const fault = (message: string): Fault => ({ nonce, operation, message, isFatal: false });
  if (operation === undefined) {
    return fault(`operation: expected 1 to ${OPERATION_NAMES.length}, got ${view.getUint8(HEADER.operation)}`);
  }
  if (view.getUint16(HEADER.status, true) !== 0) return fault('status: expected zeros in a request');
  if (nonce === 0) return fault('nonce: expected 1 to 2^53 - 1');
  const { request }: Operation = OPERATIONS[operation];
  const fields = decodeFields(frame, view, request, cut);
  if (typeof fields === 'string') return fault(`${operation}: ${fields}`);
  return { operation, nonce, fields } as unknown as Request;
}

/** Reads one whole frame as an answer. @returns what is wrong with it, where it is none */
export function decodeResponse(frame: Uint8Array): Response | string {
  const view = viewOf(frame);
  const version = view.getUint8(HEADER.version);
  if (version !== PROTOCOL_VERSION) return `version: expected ${PROTOCOL_VERSION}, got ${version}`;
  const nonce = getU64(view, HEADER.nonce);
  const status = STATUS_BY_CODE.get(view.getUint8(HEADER.status));
  const operation = NAME_BY_CODE.get(view.getUint8(HEADER.operation));
  if (status === undefined || nonce < 0 || view.getUint8(HEADER.reserved) !== 0) return 'its header makes no sense';
  if (status === 'OK' && operation === undefined) return `operation: unknown ${view.getUint8(HEADER.operation)}`;
  const table: readonly WireField[] =
    status === 'OK' ? OPERATIONS[operation as OperationName].response : (ERROR_FIELDS as readonly WireField[]);
  const fields = decodeFields(frame, view, table, false);
  return typeof fields === 'string' ? fields : { nonce, operation, status, fields };
}

/** The same put, marked as asked before: a new array, the caller's. */
export function asAgain(frame: Uint8Array): Uint8Array {
  const copy = frame.slice();
  const cursor: Cursor = { frame: copy, view: viewOf(copy), at: HEADER_BYTES };
  for (const field of OPERATIONS.put_atomic.request) {
    if (field[0] === 'again') break;
    readField(cursor, field);
  }
  copy[cursor.at] = 1;
  return copy;
}

/** Whether what {@link decodeRequest} returned is a fault. */
export function isFault(decoded: Request | Fault): decoded is Fault {
  return 'message' in decoded;
}

function encodeFrame(
  operationCode: number,
  statusCode: number,
  nonce: number,
  table: readonly WireField[],
  values: object,
): Uint8Array {
  const byName = values as Readonly<Record<string, unknown>>;
  const encoded = table.map(([name, kind]) => prepare(kind, byName[name]));
  let size = HEADER_BYTES;
  for (const [i, value] of encoded.entries()) size += sizeOf((table[i] as WireField)[1], value);
  const frame = new Uint8Array(size);
  const view = viewOf(frame);
  view.setUint32(HEADER.length, size - LENGTH_BYTES, true);
  view.setUint8(HEADER.version, PROTOCOL_VERSION);
  view.setUint8(HEADER.operation, operationCode);
  view.setUint8(HEADER.status, statusCode);
  setU64(view, HEADER.nonce, nonce);
  let at = HEADER_BYTES;
  for (const [i, value] of encoded.entries()) at = writeField(frame, view, at, table[i] as WireField, value);
  return frame;
}

/** A value as it is written: numbers as they are, everything else as bytes. */
type Prepared = number | Uint8Array | readonly Uint8Array[];

function prepare(kind: FieldKind, value: unknown): Prepared {
  if (kind === 'text') return encoder.encode(value as string);
  if (kind === 'texts') return (value as readonly string[]).map((text) => encoder.encode(text));
  return kind === 'flag' ? Number(value as boolean) : (value as number | Uint8Array);
}

function sizeOf(kind: FieldKind, value: Prepared): number {
  const fixed = KIND_BYTES[kind];
  if (kind === 'text' || kind === 'bytes') return fixed + (value as Uint8Array).length;
  if (kind !== 'texts') return fixed;
  return (value as readonly Uint8Array[]).reduce((sum, one) => sum + KIND_BYTES.text + one.length, fixed);
}

function writeField(frame: Uint8Array, view: DataView, at: number, field: WireField, value: Prepared): number {
  const [name, kind, cap] = field;
  switch (kind) {
    case 'u32':
      view.setUint32(at, value as number, true);
      return at + 4;
    case 'u64':
      setU64(view, at, value as number);
      return at + 8;
    case 'flag':
      view.setUint8(at, value as number);
      return at + 1;
    case 'id':
      frame.set(value as Uint8Array, at);
      return at + 8;
    case 'texts': {
      const texts = value as readonly Uint8Array[];
      invariant(texts.length <= cap, `${name}: at most ${cap}`);
      view.setUint32(at, texts.length, true);
      return texts.reduce((end, text) => writeText(frame, view, end, text), at + 4);
    }
    case 'text':
      invariant((value as Uint8Array).length <= cap, `${name}: at most ${cap} bytes`);
      return writeText(frame, view, at, value as Uint8Array);
    case 'bytes': {
      const bytes = value as Uint8Array;
      invariant(bytes.length <= cap, `${name}: at most ${cap} bytes`);
      view.setUint32(at, bytes.length, true);
      frame.set(bytes, at + 4);
      return at + 4 + bytes.length;
    }
  }
}

function writeText(frame: Uint8Array, view: DataView, at: number, text: Uint8Array): number {
  view.setUint16(at, text.length, true);
  frame.set(text, at + 2);
  return at + 2 + text.length;
}

/** Where a frame is being read. */
interface Cursor {
  readonly frame: Uint8Array;
  readonly view: DataView;
  at: number;
}

/** What a field reader throws: caught below, it never leaves this file. */
class FieldFault extends Error {}

function decodeFields(
  frame: Uint8Array,
  view: DataView,
  table: readonly WireField[],
  cut: boolean,
): Record<string, unknown> | string {
  const cursor: Cursor = { frame, view, at: HEADER_BYTES };
  const values: Record<string, unknown> = {};
  try {
    for (const field of table) {
      // Of a frame that is too long only the head was kept; what ends it is the payload.
      if (cut && field[0] === 'payload') values['payload'] = frame.subarray(0, 0);
      else values[field[0]] = readField(cursor, field);
    }
  } catch (error) {
    if (error instanceof FieldFault) return messageOf(error);
    throw error;
  }
  const left = frame.length - cursor.at;
  if (cut && table.at(-1)?.[0] !== 'payload') return 'the frame is longer than this operation allows';
  return cut || left === 0 ? values : `expected the end of the frame, got ${left} more bytes`;
}

function readField(cursor: Cursor, [name, kind, cap]: WireField): unknown {
  switch (kind) {
    case 'u32':
      return cursor.view.getUint32(take(cursor, 4, name), true);
    case 'u64':
      return readU64(cursor, name);
    case 'flag':
      return readFlag(cursor, name);
    case 'id':
      return viewOfTaken(cursor, 8, name);
    case 'text':
      return readText(cursor, name, cap);
    case 'bytes':
      return viewOfTaken(cursor, checkCap(cursor.view.getUint32(take(cursor, 4, name), true), cap, name), name);
    case 'texts': {
      const count = checkCap(cursor.view.getUint32(take(cursor, 4, name), true), cap, name);
      const texts: string[] = [];
      for (let i = 0; i < count; i++) texts.push(readText(cursor, name, MAX_KEY_BYTES));
      return texts;
    }
  }
}

/** Goes past `count` bytes. @returns where they start */
function take(cursor: Cursor, count: number, name: string): number {
  const start = cursor.at;
  if (count > cursor.frame.length - start) {
    throw new FieldFault(`${name}: expected ${count} bytes, got ${cursor.frame.length - start} before the frame's end`);
  }
  cursor.at = start + count;
  return start;
}

function viewOfTaken(cursor: Cursor, count: number, name: string): Uint8Array {
  const start = take(cursor, count, name);
  return cursor.frame.subarray(start, start + count);
}

function checkCap(count: number, cap: number, name: string): number {
  if (count > cap) throw new FieldFault(`${name}: expected at most ${cap}, got ${count}`);
  return count;
}

function readU64(cursor: Cursor, name: string): number {
  const value = getU64(cursor.view, take(cursor, 8, name));
  if (value < 0) throw new FieldFault(`${name}: expected at most 2^53 - 1`);
  return value;
}

function readFlag(cursor: Cursor, name: string): boolean {
  const value = cursor.view.getUint8(take(cursor, 1, name));
  if (value > 1) throw new FieldFault(`${name}: expected 0 or 1, got ${value}`);
  return value === 1;
}

function readText(cursor: Cursor, name: string, cap: number): string {
  const length = checkCap(cursor.view.getUint16(take(cursor, 2, name), true), cap, name);
  const bytes = viewOfTaken(cursor, length, name);
  try {
    return decoder.decode(bytes);
  } catch {
    throw new FieldFault(`${name}: expected well-formed UTF-8`);
  }
}

/** The start of `text` that has at most `capBytes` bytes. */
function cutText(text: string, capBytes: number): string {
  const { read } = encoder.encodeInto(text, new Uint8Array(capBytes));
  return text.slice(0, read);
}
