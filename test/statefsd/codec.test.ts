import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { viewOf } from '../../src/core/index.ts';
import { asAgain } from '../../src/statefsd/codec.ts';
import {
  decodeRequest,
  decodeResponse,
  encodeError,
  encodeRequest,
  encodeResponse,
  isFault,
  OPERATION_NAMES,
  OPERATIONS,
  type OperationName,
  type Request,
  type RequestFields,
  type ResponseFields,
  STATUSES,
  type StatusName,
  type WireField,
} from '../../src/statefsd/index.ts';
import { HEADER, HEADER_BYTES } from '../../src/statefsd/operations.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/statefsd/codec.test.ts';

/** One, two, three and four bytes of UTF-8, and what programs stumble over. */
const LETTER = fc.constantFrom('a', '/', '\u0000', '\ufeff', 'ü', '€', '😀');

/** Any value of a field, within its cap. */
function anyValue([name, kind, cap]: WireField): fc.Arbitrary<unknown> {
  const text = (bytes: number): fc.Arbitrary<string> => {
    return fc.string({ unit: LETTER, maxLength: 20 }).filter((one) => Buffer.byteLength(one) <= bytes);
  };
  switch (kind) {
    case 'u32':
      return fc.integer({ min: 0, max: 0xffff_ffff });
    case 'u64':
      return fc.maxSafeNat();
    case 'flag':
      return fc.boolean();
    case 'id':
      return fc.uint8Array({ minLength: 8, maxLength: 8 });
    case 'text':
      return text(cap);
    case 'texts':
      return fc.array(text(255), { maxLength: 6 });
    case 'bytes':
      return fc.uint8Array({ maxLength: Math.min(cap, name === 'payload' ? 300 : 80) });
  }
}

function fieldsOf(table: readonly WireField[]): fc.Arbitrary<Record<string, unknown>> {
  return fc.record(Object.fromEntries(table.map((field) => [field[0], anyValue(field)])));
}

const anyRequest: fc.Arbitrary<{ operation: OperationName; nonce: number; fields: Record<string, unknown> }> = fc
  .constantFrom(...OPERATION_NAMES)
  .chain((operation) =>
    fc.record({
      operation: fc.constant(operation),
      nonce: fc.maxSafeNat().map((nonce) => Math.max(1, nonce)),
      fields: fieldsOf(OPERATIONS[operation].request),
    }),
  );

function encode(one: { operation: OperationName; nonce: number; fields: Record<string, unknown> }): Uint8Array {
  return encodeRequest(one.operation, one.nonce, one.fields as unknown as RequestFields<OperationName>);
}

function messageOfFault(frame: Uint8Array): string {
  const decoded = decodeRequest(frame);
  return isFault(decoded) ? decoded.message : `it was read as ${decoded.operation}`;
}

const PUT: RequestFields<'put_atomic'> = {
  path: '/state/x',
  client: new Uint8Array(8).fill(9),
  serial: 4,
  again: false,
  deadlineMs: 50,
  envelope: new Uint8Array(20).fill(1),
  payload: new Uint8Array(30).fill(2),
};

test('every request comes back as it went', () => {
  const property = fc.property(anyRequest, (one) => {
    expect(decodeRequest(encode(one))).toEqual({ ...one });
  });
  holdProperty(FILE, 'every request comes back as it went', property, { numRuns: 200 });
});

test('every answer comes back as it went', () => {
  const any = fc
    .constantFrom(...OPERATION_NAMES)
    .chain((operation) => fieldsOf(OPERATIONS[operation].response).map((fields) => ({ operation, fields })));
  const property = fc.property(any, fc.maxSafeNat(), ({ operation, fields }, nonce) => {
    const frame = encodeResponse(operation, nonce, fields as unknown as ResponseFields<OperationName>);
    expect(decodeResponse(frame)).toEqual({ nonce, operation, status: 'OK', fields });
  });
  holdProperty(FILE, 'every answer comes back as it went', property, { numRuns: 200 });
});

test('every error comes back as it went, its message cut between characters', () => {
  for (const status of Object.keys(STATUSES) as StatusName[]) {
    if (status === 'OK') continue;
    const frame = encodeError('get', 7, { status, inDoubt: true, message: 'ü'.repeat(900) });
    const fields = { inDoubt: true, message: 'ü'.repeat(512) };
    expect(decodeResponse(frame)).toEqual({ nonce: 7, operation: 'get', status, fields });
  }
});

test('a request that is cut short anywhere is a fault, and so is one with a byte more', () => {
  const property = fc.property(anyRequest, (one) => {
    const frame = encode(one);
    for (let length = HEADER_BYTES; length < frame.length; length++) {
      expect(isFault(decodeRequest(frame.slice(0, length)))).toBe(true);
    }
    expect(messageOfFault(new Uint8Array([...frame, 0]))).toMatch(/expected the end of the frame, got 1 more bytes/);
  });
  holdProperty(FILE, 'a request that is cut short anywhere is a fault', property, { numRuns: 25 });
});

test('an answer that is cut short anywhere is none', () => {
  const frame = encodeResponse('get', 1, { sequence: 1, envelope: new Uint8Array(9), payload: new Uint8Array(9) });
  for (let length = HEADER_BYTES; length < frame.length; length++) {
    expect(typeof decodeResponse(frame.slice(0, length))).toBe('string');
  }
});

describe('a header that makes no sense is a fault:', () => {
  const cases: [string, (view: DataView) => void, RegExp, boolean][] = [
    ['another version', (view) => view.setUint8(HEADER.version, 2), /version: expected 1, got 2/, true],
    ['no operation', (view) => view.setUint8(HEADER.operation, 0), /operation: expected 1 to 8, got 0/, false],
    ['an unknown operation', (view) => view.setUint8(HEADER.operation, 9), /operation: expected 1 to 8, got 9/, false],
    ['a status in a request', (view) => view.setUint8(HEADER.status, 1), /status: expected zeros/, false],
    ['a reserved byte', (view) => view.setUint8(HEADER.reserved, 1), /status: expected zeros/, false],
    ['nonce zero', (view) => view.setUint32(HEADER.nonce, 0, true), /nonce: expected 1/, false],
    ['a nonce past 2^53', (view) => view.setUint32(HEADER.nonce + 4, 0xffff_ffff, true), /nonce: expected 1/, false],
  ];

  test.each(cases)('%s', (_name, change, message, isFatal) => {
    const frame = encodeRequest('put_atomic', 3, PUT);
    change(viewOf(frame));
    const fault = decodeRequest(frame);
    if (!isFault(fault)) throw new Error('it was read');
    expect(fault.message).toMatch(message);
    expect(fault.isFatal).toBe(isFatal);
  });
});

describe('a field that makes no sense is a fault:', () => {
  const pathAt = HEADER_BYTES;
  const againAt = pathAt + 2 + PUT.path.length + 8 + 8;
  const cases: [string, (frame: Uint8Array) => void, RegExp][] = [
    ['a flag of 2', (frame) => frame.fill(2, againAt, againAt + 1), /again: expected 0 or 1, got 2/],
    [
      'a text that is no UTF-8',
      (frame) => frame.fill(0xff, pathAt + 2, pathAt + 3),
      /path: expected well-formed UTF-8/,
    ],
    [
      'a text over its cap',
      (frame) => viewOf(frame).setUint16(pathAt, 256, true),
      /path: expected at most 255, got 256/,
    ],
    ['a text past the end', (frame) => viewOf(frame).setUint16(pathAt, 200, true), /path: expected 200 bytes, got/],
    [
      'an envelope over its cap',
      (frame) => viewOf(frame).setUint32(againAt + 5, 0xffff_ffff, true),
      /envelope: expected at most 332, got 4294967295/,
    ],
    [
      'a payload past the end',
      (frame) => viewOf(frame).setUint32(frame.length - 34, 31, true),
      /payload: expected 31 bytes, got 30 before/,
    ],
    [
      'a serial past 2^53',
      (frame) => viewOf(frame).setUint32(againAt - 4, 0x20_0000, true),
      /serial: expected at most 2\^53 - 1/,
    ],
  ];

  test.each(cases)('%s', (_name, change, message) => {
    const frame = encodeRequest('put_atomic', 3, PUT);
    change(frame);
    expect(messageOfFault(frame)).toMatch(message);
  });
});

test('the head of a put that is too long tells all but its payload; of another operation it is a fault', () => {
  const frame = encodeRequest('put_atomic', 3, { ...PUT, payload: new Uint8Array(9000) });
  const head = decodeRequest(frame.subarray(0, 4096), true) as Request;
  expect(head.fields).toEqual({ ...PUT, payload: new Uint8Array(0) });
  const get = encodeRequest('get', 3, { path: '/state/x' });
  expect(isFault(decodeRequest(new Uint8Array([...get, ...new Uint8Array(5000)]).subarray(0, 4096), true))).toBe(true);
});

test('a put that is asked again differs in its flag alone', () => {
  const frame = encodeRequest('put_atomic', 3, PUT);
  const again = asAgain(frame);
  expect(decodeRequest(again)).toEqual({ operation: 'put_atomic', nonce: 3, fields: { ...PUT, again: true } });
  expect(decodeRequest(frame)).toEqual({ operation: 'put_atomic', nonce: 3, fields: PUT });
});

test('codes are unique and stay what they are', () => {
  expect(Object.fromEntries(OPERATION_NAMES.map((name) => [name, OPERATIONS[name].code]))).toEqual({
    put_atomic: 1,
    put: 2,
    get: 3,
    delete: 4,
    list: 5,
    sync: 6,
    stats: 7,
    reopen: 8,
  });
  expect(Object.fromEntries(Object.entries(STATUSES).map(([name, { code }]) => [name, code]))).toEqual({
    OK: 0,
    EPERM: 1,
    ENOENT: 2,
    EINVAL: 3,
    E2BIG: 4,
    EINTEGRITY: 5,
    EDEADLINE: 6,
    ENOSPC: 7,
    EDQUOT: 8,
    EROFS: 9,
    EIO: 10,
    EBUSY: 11,
    EPROTO: 12,
    EROLLBACK: 13,
    ECLOSED: 14,
  });
});
