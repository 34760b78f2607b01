import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { codeOf, toHex } from '../../src/core/index.ts';
import {
  decode,
  ENVELOPE_ALGORITHM,
  ENVELOPE_VERSION,
  type Envelope,
  type EnvelopeMetadata,
  encode,
  MAX_ENVELOPE_BYTES,
  MAX_PURPOSE_BYTES,
  MAX_SUBJECT_BYTES,
  sha256,
  verify,
  wrap,
} from '../../src/envelope/index.ts';

const META: EnvelopeMetadata = { subject: 'bootctl', purpose: 'switch', ts: 1_700_000_000_000 };
const PAYLOAD = new TextEncoder().encode('slot b');

function codeThrown(run: () => unknown): string | undefined {
  try {
    run();
  } catch (error) {
    return error instanceof TypeError ? 'TypeError' : (codeOf(error) ?? String(error));
  }
  return undefined;
}

function hex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.replace(/\s+/g, ''), 'hex'));
}

describe('wrap and verify', () => {
  test('an envelope has the fields of version 1', () => {
    expect(wrap(PAYLOAD, META)).toEqual({
      version: ENVELOPE_VERSION,
      algorithm: ENVELOPE_ALGORITHM,
      payloadBytes: 6,
      digest: sha256(PAYLOAD),
      meta: META,
    });
  });

  test('the envelope keeps no part of its arguments', () => {
    const payload = PAYLOAD.slice();
    const meta = { ...META };
    const envelope = wrap(payload, meta);
    payload.fill(0);
    meta.subject = 'other';
    expect(envelope.meta.subject).toBe('bootctl');
    expect(() => verify(envelope, PAYLOAD)).not.toThrow();
  });

  test('any other payload is EINTEGRITY', () => {
    const envelope = wrap(PAYLOAD, META);
    const flipped = PAYLOAD.slice();
    flipped[5] = 0x61;
    for (const payload of [flipped, PAYLOAD.subarray(1), new Uint8Array(), new Uint8Array(7)]) {
      expect(codeThrown(() => verify(envelope, payload))).toBe('EINTEGRITY');
    }
    const lying = { ...envelope, payloadBytes: 7 };
    expect(codeThrown(() => verify(lying, PAYLOAD))).toBe('EINTEGRITY');
  });

  test('the empty payload has an envelope', () => {
    expect(() => verify(decode(encode(wrap(new Uint8Array(), META))), new Uint8Array())).not.toThrow();
  });
});

describe('bad arguments', () => {
  const wrongMetadata: [string, unknown, string][] = [
    ['no metadata', undefined, 'TypeError'],
    ['a subject of another type', { ...META, subject: 7 }, 'TypeError'],
    ['an absent purpose', { subject: 'a', ts: 1 }, 'TypeError'],
    ['a time as text', { ...META, ts: '1' }, 'TypeError'],
    ['a time as bigint', { ...META, ts: 1n }, 'TypeError'],
    ['a negative time', { ...META, ts: -1 }, 'EINVAL'],
    ['a negative zero', { ...META, ts: -0 }, 'EINVAL'],
    ['a fraction of a millisecond', { ...META, ts: 1.5 }, 'EINVAL'],
    ['NaN', { ...META, ts: Number.NaN }, 'EINVAL'],
    ['a time over 2^53', { ...META, ts: 2 ** 53 }, 'EINVAL'],
    ['a lone high surrogate', { ...META, subject: 'a\ud800' }, 'EINVAL'],
    ['a lone low surrogate', { ...META, purpose: '\udc00a' }, 'EINVAL'],
    ['surrogates the wrong way round', { ...META, purpose: '\udc00\ud800' }, 'EINVAL'],
    ['two low surrogates', { ...META, purpose: '\udc00\udc00' }, 'EINVAL'],
    ['a byte order mark', { ...META, subject: '\ufeffbootctl' }, 'EINVAL'],
    ['a subject over its cap', { ...META, subject: 'x'.repeat(MAX_SUBJECT_BYTES + 1) }, 'E2BIG'],
    ['a subject over its cap in bytes only', { ...META, subject: `${'x'.repeat(MAX_SUBJECT_BYTES - 1)}é` }, 'E2BIG'],
    ['a purpose over its cap in bytes only', { ...META, purpose: 'é'.repeat(MAX_PURPOSE_BYTES / 2 + 1) }, 'E2BIG'],
  ];

  test.each(wrongMetadata)('wrap, encode and verify refuse %s', (_name, meta, code) => {
    const envelope = { ...wrap(PAYLOAD, META), meta } as Envelope;
    expect(codeThrown(() => wrap(PAYLOAD, meta as never))).toBe(code);
    expect(codeThrown(() => encode(envelope))).toBe(code);
    expect(codeThrown(() => verify(envelope, PAYLOAD))).toBe(code);
  });

  const wrongEnvelopes: [string, Record<string, unknown>, string][] = [
    ['another version', { version: 2 }, 'EINVAL'],
    ['another algorithm', { algorithm: 'md5' }, 'EINVAL'],
    ['a negative size', { payloadBytes: -1 }, 'EINVAL'],
    ['a size of NaN', { payloadBytes: Number.NaN }, 'EINVAL'],
    ['a digest of 31 bytes', { digest: new Uint8Array(31) }, 'EINVAL'],
    ['a digest that is an array', { digest: new Array(32).fill(0) }, 'TypeError'],
  ];

  test.each(wrongEnvelopes)('encode and verify refuse %s', (_name, change, code) => {
    const envelope = { ...wrap(PAYLOAD, META), ...change } as Envelope;
    expect(codeThrown(() => encode(envelope))).toBe(code);
    expect(codeThrown(() => verify(envelope, PAYLOAD))).toBe(code);
  });

  const envelope = wrap(PAYLOAD, META);
  const wrongTypes: [string, () => unknown][] = [
    ['payload: expected a Uint8Array, got string "payload"', () => wrap('payload' as never, META)],
    ['payload: expected a Uint8Array, got Array', () => verify(envelope, [] as never)],
    ['envelope: expected an Envelope, got null', () => verify(null as never, PAYLOAD)],
    ['envelope: expected an Envelope, got undefined', () => encode(undefined as never)],
    ['envelope: expected an Envelope, got string "a5"', () => encode('a5' as never)],
    ['bytes: expected a Uint8Array, got string "a5"', () => decode('a5' as never)],
    ['bytes: expected a Uint8Array, got DataView(8)', () => decode(new DataView(new ArrayBuffer(8)) as never)],
    ['meta: expected {subject, purpose, ts}, got null', () => wrap(PAYLOAD, null as never)],
    ['meta: expected {subject, purpose, ts}, got number 7', () => wrap(PAYLOAD, 7 as never)],
    ['meta.subject: expected a string, got number 7', () => wrap(PAYLOAD, { ...META, subject: 7 as never })],
    ['meta.purpose: expected a string, got number 7', () => wrap(PAYLOAD, { ...META, purpose: 7 as never })],
  ];

  // The engine's own TypeErrors would not say which argument it is.
  test.each(wrongTypes)('%s', (message, run) => {
    expect(run).toThrow(new TypeError(message));
  });
});

describe('text', () => {
  const edges = ['\x7f', '\x80', '\u07ff', '\u0800', '\ud7ff', '\ue000', '\uffff', '\u{10000}', '\u{10ffff}'];

  test.each(edges)('of %j comes back, up to exactly the cap in bytes', (character) => {
    const bytes = new TextEncoder().encode(character).length;
    const fits = character.repeat(Math.floor(MAX_SUBJECT_BYTES / bytes)) + 'x'.repeat(MAX_SUBJECT_BYTES % bytes);
    const envelope = wrap(PAYLOAD, { ...META, subject: fits });
    expect(decode(encode(envelope))).toEqual(envelope);
    expect(codeThrown(() => wrap(PAYLOAD, { ...META, subject: `${fits}x` }))).toBe('E2BIG');
  });

  test('over its cap by characters is told by its characters, and not walked', () => {
    const subject = 'é'.repeat(MAX_SUBJECT_BYTES + 1);
    expect(() => wrap(PAYLOAD, { ...META, subject })).toThrow('got 129 or more');
  });
});

/** The parts of the golden encoding, to be put together wrongly below. */
const ALGORITHM = '6161 2f';
const DIGEST = `6164 5820 ${toHex(sha256(PAYLOAD))}`;
const PURPOSE = '6170 66737769746368';
const SUBJECT = '6173 67626f6f7463746c';
const TIME = '6174 1b0000018bcfe56800';
const META_MAP = `616d a3 ${PURPOSE} ${SUBJECT} ${TIME}`;
const SIZE = '6173 06';
const VERSION = '6176 01';
const GOLDEN = `a5 ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE} ${VERSION}`;

describe('bytes', () => {
  test('golden encoding, as docs/envelope.md shows it', () => {
    expect(toHex(encode(wrap(PAYLOAD, META)))).toBe(toHex(hex(GOLDEN)));
    expect(decode(hex(GOLDEN))).toEqual(wrap(PAYLOAD, META));
  });

  test('docs/envelope.md shows these bytes and caps', () => {
    const docs = readFileSync(new URL('../../docs/envelope.md', import.meta.url), 'utf8');
    const block = docs.match(/```\n(a5 [^`]*)```/)?.[1] ?? '';
    // A line is bytes, then what they mean: text in quotes or words.
    const bytes = block.split('\n').map((line) => line.replace(/ {2,}(?:"|map of).*$/, ''));
    expect(toHex(hex(bytes.join('').replace('<32 bytes>', toHex(sha256(PAYLOAD)))))).toBe(toHex(hex(GOLDEN)));
    expect(docs).toContain(`| subject | ${MAX_SUBJECT_BYTES} bytes of UTF-8 |`);
    expect(docs).toContain(`| purpose | ${MAX_PURPOSE_BYTES} bytes of UTF-8 |`);
    expect(docs).toContain(`| the whole envelope | ${MAX_ENVELOPE_BYTES} bytes |`);
  });

  test('the largest envelope has exactly MAX_ENVELOPE_BYTES', () => {
    const meta = { subject: 's'.repeat(128), purpose: '\u{1f50b}'.repeat(32), ts: Number.MAX_SAFE_INTEGER };
    const largest = { ...wrap(PAYLOAD, meta), payloadBytes: Number.MAX_SAFE_INTEGER };
    const bytes = encode(largest);
    expect(bytes.length).toBe(MAX_ENVELOPE_BYTES);
    expect(decode(bytes)).toEqual(largest);
  });

  test.each([0, 23, 24, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1])(
    'the integer %d comes back',
    (value) => {
      const envelope = { ...wrap(PAYLOAD, { ...META, ts: value }), payloadBytes: value };
      expect(decode(encode(envelope))).toEqual(envelope);
    },
  );

  test('encode and decode give plain arrays that share nothing, and leave their input as it was', () => {
    const bytes = encode(wrap(PAYLOAD, META));
    const input = bytes.slice();
    const first = decode(input);
    expect(Object.keys(input)).toEqual(Object.keys(bytes));
    expect(Object.getPrototypeOf(bytes)).toBe(Uint8Array.prototype);
    expect(Object.getPrototypeOf(first.digest)).toBe(Uint8Array.prototype);
    expect(bytes.buffer.byteLength).toBe(bytes.length);
    input.fill(0);
    expect(first).toEqual(wrap(PAYLOAD, META));
    encode(wrap(new Uint8Array(9), { ...META, subject: 'another' }));
    expect(decode(bytes)).toEqual(first);
  });

  test('input over the cap is E2BIG, whatever it holds', () => {
    expect(codeThrown(() => decode(new Uint8Array(MAX_ENVELOPE_BYTES + 1)))).toBe('E2BIG');
    expect(codeThrown(() => decode(new Uint8Array(2 ** 20).fill(0x81)))).toBe('E2BIG');
    expect(codeThrown(() => decode(new Uint8Array(MAX_ENVELOPE_BYTES)))).toBe('EINTEGRITY');
  });

  test('metadata over its cap is E2BIG though the envelope fits', () => {
    const long = `616d a3 ${PURPOSE} 6173 7881 ${'61'.repeat(129)} ${TIME}`;
    expect(codeThrown(() => decode(hex(`a5 ${ALGORITHM} ${DIGEST} ${long} ${SIZE} ${VERSION}`)))).toBe('E2BIG');
  });
});

describe('what cbor-x lets pass is refused', () => {
  const spellings: [string, string][] = [
    ['nothing', ''],
    ['a truncated envelope', GOLDEN.slice(0, -1)],
    ['a trailing byte', `${GOLDEN} 00`],
    ['a repeated key', `a6 ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE} ${VERSION} ${VERSION}`],
    ['a repeated key, first value other', `a6 ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE} 6176 02 ${VERSION}`],
    ['an unknown key', `a6 ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE} ${VERSION} 6178 00`],
    ['an absent key', `a4 ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE}`],
    ['keys in another order', `a5 ${VERSION} ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE}`],
    ['__proto__ for a key', `a6 695f5f70726f746f5f5f a0 ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE} ${VERSION}`],
    ['all fields under __proto__', `a1 695f5f70726f746f5f5f ${GOLDEN}`],
    ['an indefinite map', `bf ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE} ${VERSION} ff`],
    ['an indefinite digest', `a5 ${ALGORITHM} 6164 5f5820${DIGEST.slice(10)}ff ${META_MAP} ${SIZE} ${VERSION}`],
    ['a map head of two bytes', `b805 ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE} ${VERSION}`],
    ['a size in two bytes', `a5 ${ALGORITHM} ${DIGEST} ${META_MAP} 6173 1806 ${VERSION}`],
    ['a size in eight bytes', `a5 ${ALGORITHM} ${DIGEST} ${META_MAP} 6173 1b0000000000000006 ${VERSION}`],
    ['a size as float', `a5 ${ALGORITHM} ${DIGEST} ${META_MAP} 6173 f94600 ${VERSION}`],
    ['a size as big number (tag 2)', `a5 ${ALGORITHM} ${DIGEST} ${META_MAP} 6173 c24106 ${VERSION}`],
    [
      'a time as float64',
      `a5 ${ALGORITHM} ${DIGEST} 616d a3 ${PURPOSE} ${SUBJECT} 6174 fb4278bcfe56800000 ${SIZE} ${VERSION}`,
    ],
    ['a tag around it', `d9d9f7 ${GOLDEN}`],
    [
      'a digest tagged as an array (64)',
      `a5 ${ALGORITHM} 6164 d840 5820${DIGEST.slice(10)} ${META_MAP} ${SIZE} ${VERSION}`,
    ],
    ['a digest as text', `a5 ${ALGORITHM} 6164 7820 ${'61'.repeat(32)} ${META_MAP} ${SIZE} ${VERSION}`],
    ['a digest as an array', `a5 ${ALGORITHM} 6164 9820 ${'01'.repeat(32)} ${META_MAP} ${SIZE} ${VERSION}`],
    ['text that is no UTF-8', `a5 ${ALGORITHM} ${DIGEST} 616d a3 6170 61ff ${SUBJECT} ${TIME} ${SIZE} ${VERSION}`],
    ['text in too long a form', `a5 ${ALGORITHM} ${DIGEST} 616d a3 6170 62c1a1 ${SUBJECT} ${TIME} ${SIZE} ${VERSION}`],
    ['a surrogate in UTF-8', `a5 ${ALGORITHM} ${DIGEST} 616d a3 6170 63eda080 ${SUBJECT} ${TIME} ${SIZE} ${VERSION}`],
    ['a byte order mark', `a5 ${ALGORITHM} ${DIGEST} 616d a3 6170 64efbbbf61 ${SUBJECT} ${TIME} ${SIZE} ${VERSION}`],
    ['another version', `a5 ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE} 6176 02`],
    ['another algorithm', `a5 6161 2e ${DIGEST} ${META_MAP} ${SIZE} ${VERSION}`],
    ['a negative size', `a5 ${ALGORITHM} ${DIGEST} ${META_MAP} 6173 20 ${VERSION}`],
    ['a size over 2^53', `a5 ${ALGORITHM} ${DIGEST} ${META_MAP} 6173 1b0020000000000000 ${VERSION}`],
    ['a size over 2^64 - 2', `a5 ${ALGORITHM} ${DIGEST} ${META_MAP} 6173 1bffffffffffffffff ${VERSION}`],
    ['null', 'f6'],
    ['undefined', 'f7'],
    ['an array', '85 2f 5820 00'],
    ['deep nesting', '81'.repeat(MAX_ENVELOPE_BYTES)],
    ['deep tags', 'c6'.repeat(MAX_ENVELOPE_BYTES)],
    ['a record of cbor-x', 'd9dff8 83 1840 8161 61 01'],
    ['a lying array length', '9affffffff'],
    ['a lying array of 2^25', '9a02000000'],
    ['a lying map length', 'bbffffffffffffffff'],
    ['a lying text length', '7affffffff'],
  ];

  test.each(spellings)('%s', (_name, text) => {
    expect(codeThrown(() => decode(hex(text)))).toBe('EINTEGRITY');
    // A refusal leaves nothing behind in the decoder.
    expect(decode(hex(GOLDEN))).toEqual(wrap(PAYLOAD, META));
    expect(({} as Record<string, unknown>)['v']).toBeUndefined();
  });

  const told: [string, string, string][] = [
    ['what does not parse', 'a5', 'expected CBOR, got what does not parse'],
    ['another version', `a5 ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE} 6176 02`, 'expected version 1'],
    ['another algorithm', `a5 6161 2e ${DIGEST} ${META_MAP} ${SIZE} ${VERSION}`, 'expected algorithm -16'],
    ['a short digest', `a5 ${ALGORITHM} 6164 41ff ${META_MAP} ${SIZE} ${VERSION}`, 'expected a digest of 32 bytes'],
    ['a size as text', `a5 ${ALGORITHM} ${DIGEST} ${META_MAP} 6173 6136 ${VERSION}`, 'expected a payload size'],
    [
      'a time as text',
      `a5 ${ALGORITHM} ${DIGEST} 616d a3 ${PURPOSE} ${SUBJECT} 6174 6131 ${SIZE} ${VERSION}`,
      'expected metadata of two texts and an integer',
    ],
    [
      'another spelling',
      `b805 ${ALGORITHM} ${DIGEST} ${META_MAP} ${SIZE} ${VERSION}`,
      'expected its canonical encoding',
    ],
  ];

  // All would be refused by the comparison at the end; whoever has such bytes in hand needs to know which it is.
  test.each(told)('%s is told as such', (_name, text, message) => {
    expect(() => decode(hex(text))).toThrow(`envelope: ${message}`);
  });

  test('the cause of what does not parse is kept, and nothing else has one', () => {
    const thrown = (text: string): unknown => {
      try {
        return decode(hex(text));
      } catch (error) {
        return error;
      }
    };
    expect(thrown('a5')).toHaveProperty('cause', expect.any(Error));
    expect(thrown('80')).not.toHaveProperty('cause');
  });
});
