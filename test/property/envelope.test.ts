import { Decoder } from 'cbor-x';
import * as cborg from 'cborg';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { codeOf, equalBytes } from '../../src/core/index.ts';
import {
  decode,
  type EnvelopeMetadata,
  encode,
  MAX_ENVELOPE_BYTES,
  MAX_PURPOSE_BYTES,
  MAX_SUBJECT_BYTES,
  verify,
  wrap,
} from '../../src/envelope/index.ts';
import { holdProperty, isCaught } from './replay.ts';

const FILE = 'test/property/envelope.test.ts';

const utf8 = new TextEncoder();

function text(capBytes: number): fc.Arbitrary<string> {
  const fits = (value: string) => utf8.encode(value).length <= capBytes && !value.startsWith('\ufeff');
  const unit = fc.constantFrom('grapheme' as const, 'binary' as const, 'grapheme-ascii' as const);
  return unit.chain((kind) => fc.string({ unit: kind, maxLength: capBytes })).filter(fits);
}

const metadata: fc.Arbitrary<EnvelopeMetadata> = fc.record({
  subject: text(MAX_SUBJECT_BYTES),
  purpose: text(MAX_PURPOSE_BYTES),
  ts: fc.oneof(fc.maxSafeNat(), fc.nat({ max: 70_000 }), fc.constantFrom(0, 23, 24, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1)),
});
const payload = fc.uint8Array({ maxLength: 300 });

function accepts(decoder: (bytes: Uint8Array) => unknown, bytes: Uint8Array): boolean {
  try {
    decoder(bytes);
    return true;
  } catch (error) {
    // Anything but a coded refusal is a defect of its own.
    if (codeOf(error) === 'EINTEGRITY' || codeOf(error) === 'E2BIG') return false;
    throw error;
  }
}

/** Whether `bytes` are an envelope, by another CBOR library: strict, deterministic, and of the schema. */
function oracleAccepts(bytes: Uint8Array): boolean {
  if (bytes.length > MAX_ENVELOPE_BYTES) return false;
  try {
    const options = { strict: true, allowIndefinite: false, rejectDuplicateMapKeys: true, useMaps: true };
    const value: unknown = cborg.decode(bytes, options);
    return equalBytes(cborg.encode(value, cborg.rfc8949EncodeOptions), bytes) && hasSchema(value);
  } catch {
    return false;
  }
}

function hasSchema(value: unknown): boolean {
  if (!(value instanceof Map) || value.size !== 5) return false;
  const [digest, meta] = [value.get('d'), value.get('m')];
  if (value.get('v') !== 1 || value.get('a') !== -16) return false;
  if (!(digest instanceof Uint8Array) || digest.length !== 32) return false;
  if (!(meta instanceof Map) || meta.size !== 3) return false;
  return isCount(value.get('s')) && isCount(meta.get('t')) && isText(meta.get('s'), 128) && isText(meta.get('p'), 128);
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isText(value: unknown, capBytes: number): boolean {
  return typeof value === 'string' && utf8.encode(value).length <= capBytes && !value.startsWith('\ufeff');
}

/** The head of an item, in the least bytes (`stretch` 0) or in more than it needs. */
function head(majorType: number, argument: bigint, stretch: number): number[] {
  const least = argument < 24n ? 0 : argument < 2n ** 8n ? 1 : argument < 2n ** 16n ? 2 : argument < 2n ** 32n ? 4 : 8;
  const widths = [0, 1, 2, 4, 8].filter((width) => width >= least);
  const width = widths[Math.min(stretch, widths.length - 1)] ?? least;
  if (width === 0) return [(majorType << 5) | Number(argument)];
  const info = 24 + Math.log2(width);
  const bytes = Array.from({ length: width }, (_, i) => Number((argument >> BigInt(8 * (width - 1 - i))) & 0xffn));
  return [(majorType << 5) | info, ...bytes];
}

/** Mostly the canonical way, now and then another. */
const stretch = fc.oneof({ weight: 60, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat({ max: 4 }) });
const rarely = fc.oneof({ weight: 40, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) });

function integer(value: fc.Arbitrary<bigint>): fc.Arbitrary<number[]> {
  return fc.tuple(value, stretch).map(([n, s]) => (n < 0n ? head(1, -1n - n, s) : head(0, n, s)));
}

function bytesItem(majorType: number, content: fc.Arbitrary<Uint8Array>): fc.Arbitrary<number[]> {
  return fc.tuple(content, stretch).map(([bytes, s]) => [...head(majorType, BigInt(bytes.length), s), ...bytes]);
}

const strange: fc.Arbitrary<number[]> = fc.oneof(
  fc.constantFrom<number[][]>([0xf6], [0xf7], [0x80], [0xa0], [0xf9, 0x3c, 0], [0xc1, 1], [0x5f, 0xff], [0x9f, 0xff]),
  fc.uint8Array({ minLength: 1, maxLength: 6 }).map((bytes) => [...bytes]),
);

function mostly(item: fc.Arbitrary<number[]>): fc.Arbitrary<number[]> {
  return fc.oneof({ weight: 60, arbitrary: item }, { weight: 1, arbitrary: strange });
}

/** A map of items under one-letter keys: as it should be, or shuffled, repeated, cut short, of indefinite length. */
function mapItem(fields: Record<string, fc.Arbitrary<number[]>>): fc.Arbitrary<number[]> {
  const entries = fc.tuple(
    ...Object.entries(fields).map(([key, item]) => mostly(item).map((bytes) => [0x61, key.charCodeAt(0), ...bytes])),
  );
  const faults = fc.record({ reverse: rarely, repeat: rarely, drop: rarely, indefinite: rarely, tag: rarely, stretch });
  return fc.tuple(entries, faults).map(([parts, fault]) => {
    let list: number[][] = fault.reverse ? [...parts].reverse() : [...parts];
    if (fault.drop) list = list.slice(1);
    if (fault.repeat) list = [...list, ...list.slice(-1)];
    const opening = fault.indefinite ? [0xbf] : head(5, BigInt(list.length), fault.stretch);
    return [...(fault.tag ? [0xd9, 0xd9, 0xf7] : []), ...opening, ...list.flat(), ...(fault.indefinite ? [0xff] : [])];
  });
}

const count = fc.oneof(
  { weight: 8, arbitrary: fc.maxSafeNat().map(BigInt) },
  { weight: 8, arbitrary: fc.nat({ max: 300 }).map(BigInt) },
  { weight: 1, arbitrary: fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n - 1n }) },
);
const textBytes = fc.oneof(
  { weight: 20, arbitrary: text(128).map((value) => new Uint8Array(utf8.encode(value))) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 140 }) },
);
const digestBytes = fc.oneof(
  { weight: 40, arbitrary: fc.uint8Array({ minLength: 32, maxLength: 32 }) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 40 }) },
);

/** Spellings of envelopes, right about every second time. */
const spelling: fc.Arbitrary<Uint8Array> = mapItem({
  a: integer(fc.constant(-16n)),
  d: bytesItem(2, digestBytes),
  m: mapItem({ p: bytesItem(3, textBytes), s: bytesItem(3, textBytes), t: integer(count) }),
  s: integer(count),
  v: integer(fc.constant(1n)),
}).map((bytes) => new Uint8Array(bytes));

type Mutation = readonly ['set' | 'insert' | 'remove' | 'cut', at: number, byte: number];
const mutations: fc.Arbitrary<Mutation[]> = fc.array(
  fc.tuple(
    fc.constantFrom('set' as const, 'insert' as const, 'remove' as const, 'cut' as const),
    fc.nat(),
    fc.nat(255),
  ),
  { minLength: 1, maxLength: 3 },
);

function mutate(bytes: Uint8Array, list: readonly Mutation[]): Uint8Array {
  const out = [...bytes];
  for (const [kind, where, byte] of list) {
    const at = where % (out.length + 1);
    if (kind === 'cut') out.length = at;
    else if (kind === 'insert') out.splice(at, 0, byte);
    else if (kind === 'remove') out.splice(at, 1);
    else if (at < out.length) out[at] = byte;
  }
  return new Uint8Array(out);
}

const valid = fc.tuple(payload, metadata).map(([bytes, meta]) => encode(wrap(bytes, meta)));
const mutated = fc.tuple(valid, mutations).map(([bytes, list]) => mutate(bytes, list));
const anyBytes = fc.uint8Array({ maxLength: MAX_ENVELOPE_BYTES + 20 });

const differential = (decoder: (bytes: Uint8Array) => unknown, input: fc.Arbitrary<Uint8Array>) =>
  fc.property(input, (bytes) => {
    expect(accepts(decoder, bytes)).toBe(oracleAccepts(bytes));
  });

/** Defines the test of a property; a failure prints the line that repeats it. */
function holds<T>(name: string, property: fc.IProperty<T>, numRuns: number): void {
  test(name, () => holdProperty(FILE, name, property, { numRuns }));
}

describe('envelope', () => {
  holds(
    'round trip: what was wrapped comes back, verifies, and encodes to the same bytes',
    fc.property(payload, metadata, (bytes, meta) => {
      const envelope = wrap(bytes, meta);
      const encoded = encode(envelope);
      const decoded = decode(encoded);
      expect(encoded.length).toBeLessThanOrEqual(MAX_ENVELOPE_BYTES);
      expect(decoded).toEqual(envelope);
      expect(encode(decoded)).toEqual(encoded);
      verify(decoded, bytes);
    }),
    600,
  );

  holds(
    'mutation: no changed payload verifies',
    fc.property(payload, metadata, mutations, (bytes, meta, list) => {
      const changed = mutate(bytes, list);
      fc.pre(!equalBytes(changed, bytes));
      expect(accepts(() => verify(wrap(bytes, meta), changed), bytes)).toBe(false);
    }),
    300,
  );

  holds(
    'mutation: changed bytes are refused, or say something else',
    fc.property(valid, mutations, (bytes, list) => {
      const changed = mutate(bytes, list);
      fc.pre(!equalBytes(changed, bytes));
      if (accepts(decode, changed)) expect(decode(changed)).not.toEqual(decode(bytes));
    }),
    600,
  );

  holds('accepts exactly what a strict decoder accepts: arbitrary bytes', differential(decode, anyBytes), 500);
  holds('accepts exactly what a strict decoder accepts: mutated envelopes', differential(decode, mutated), 1500);
  holds('accepts exactly what a strict decoder accepts: spellings', differential(decode, spelling), 3000);
});

describe('the tests see', () => {
  const lax = new Decoder({ useRecords: false, mapsAsObjects: true });
  /** The decoder without the comparison of bytes. */
  const withoutReencoding = (bytes: Uint8Array): unknown => {
    try {
      const value = lax.decode(bytes.subarray());
      if (value.v === 1 && value.a === -16 && value.d.length === 32 && value.m.p.length >= 0) return value;
    } catch {}
    throw Object.assign(new Error('refused'), { code: 'EINTEGRITY' });
  };

  test('a decoder that does not compare its re-encoding', () => {
    expect(isCaught(differential(withoutReencoding, spelling), { numRuns: 3000, seed: 1 })).toBe(true);
  });

  test('a decoder that refuses everything', () => {
    const refuseAll = () => {
      throw Object.assign(new Error('refused'), { code: 'EINTEGRITY' });
    };
    expect(isCaught(differential(refuseAll, spelling), { numRuns: 300, seed: 1 })).toBe(true);
  });

  test('both verdicts: the spellings are neither all right nor all wrong', () => {
    const verdicts = fc.sample(spelling, { numRuns: 400, seed: 1 }).map(oracleAccepts);
    const accepted = verdicts.filter(Boolean).length;
    expect(accepted).toBeGreaterThan(60);
    expect(accepted).toBeLessThan(340);
  });
});
