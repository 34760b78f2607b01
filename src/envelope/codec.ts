import { Decoder } from 'cbor-x';
import { assertBytes, CodedError, equalBytes, messageOf } from '../core/index.ts';
import { checkEnvelope, ENVELOPE_ALGORITHM, ENVELOPE_VERSION, type Envelope } from './envelope.ts';
import { checkMetadataValues, isCount, MAX_PURPOSE_BYTES, MAX_SUBJECT_BYTES } from './metadata.ts';
import { SHA256_BYTES } from './sha256.ts';

/** SHA-256 among the COSE algorithms (RFC 9054 §2.1). */
const COSE_SHA_256 = -16;

/** Major types (RFC 8949 §3.1), in the place that they have in an initial byte. */
const UNSIGNED = 0 << 5;
const NEGATIVE = 1 << 5;
const BYTES = 2 << 5;
const TEXT = 3 << 5;
const MAP = 5 << 5;

/** A one-letter text key. */
const KEY_BYTES = 2;
/** The longest head of an item: the initial byte and 64 bits. */
const MAX_HEAD_BYTES = 9;
/** The head of a text or byte string of 24 to 255 bytes. */
const STRING_HEAD_BYTES = 2;

/** The longest encoded envelope. Longer input is refused before a byte of it is parsed. */
export const MAX_ENVELOPE_BYTES: number =
  1 + // map of 5
  (KEY_BYTES + 1) + // a
  (KEY_BYTES + STRING_HEAD_BYTES + SHA256_BYTES) + // d
  (KEY_BYTES + 1) + // m: map of 3
  (KEY_BYTES + STRING_HEAD_BYTES + MAX_PURPOSE_BYTES) +
  (KEY_BYTES + STRING_HEAD_BYTES + MAX_SUBJECT_BYTES) +
  (KEY_BYTES + MAX_HEAD_BYTES) + // t
  (KEY_BYTES + MAX_HEAD_BYTES) + // s
  (KEY_BYTES + 1); // v

// Its extensions for tags can't be turned off: the schema or the re-encoding refuses what they make.
const decoder = new Decoder({ mapsAsObjects: true });
const textEncoder = new TextEncoder();
/** What {@link decode} compares with: written and read within one call that calls nobody else. */
const canonical = new Uint8Array(MAX_ENVELOPE_BYTES);

/**
 * The one byte string of `envelope`: CBOR, core deterministic (RFC 8949 §4.2.1).
 * @returns at most {@link MAX_ENVELOPE_BYTES} bytes, a new array that the caller owns
 * @throws TypeError for a wrong type; CodedError EINVAL for a bad value, E2BIG for metadata over a cap
 */
export function encode(envelope: Envelope): Uint8Array {
  checkEnvelope(envelope);
  const out = new Uint8Array(MAX_ENVELOPE_BYTES);
  return out.slice(0, encodeChecked(envelope, out));
}

/**
 * Reads an envelope. Exactly the bytes that {@link encode} gives for it are accepted, and no others.
 * @param bytes not kept, and not changed
 * @throws CodedError E2BIG for input or metadata over a cap, EINTEGRITY for every other refusal; TypeError unless
 *   `bytes` is a Uint8Array
 */
export function decode(bytes: Uint8Array): Envelope {
  assertBytes(bytes, 'bytes');
  if (bytes.length > MAX_ENVELOPE_BYTES) {
    throw new CodedError('E2BIG', `envelope: expected at most ${MAX_ENVELOPE_BYTES} bytes, got ${bytes.length}`);
  }
  const envelope = fromWire(parse(bytes));
  // cbor-x accepts many spellings of one value; ours is the only one that we accept.
  if (!equalBytes(canonical.subarray(0, encodeChecked(envelope, canonical)), bytes)) {
    throw corrupt('expected its canonical encoding, got another spelling of the same values');
  }
  return envelope;
}

/**
 * One-letter keys in the order of their encoded bytes (RFC 8949 §4.2.1). By hand, because a put pays for what the wait
 * for the disk has driven out of the caches: right after a flush, `encode` with a general encoder took 24 us, now 12.
 * @returns the end of what was written to `out`
 */
function encodeChecked({ digest, payloadBytes, meta }: Envelope, out: Uint8Array): number {
  let end = putHead(out, 0, MAP, 5);
  end = putText(out, end, 'a');
  end = putHead(out, end, NEGATIVE, -1 - COSE_SHA_256);
  end = putText(out, end, 'd');
  end = putHead(out, end, BYTES, SHA256_BYTES);
  out.set(digest, end);
  end = putText(out, end + SHA256_BYTES, 'm');
  end = putHead(out, end, MAP, 3);
  end = putText(out, end, 'p');
  end = putText(out, end, meta.purpose);
  end = putText(out, end, 's');
  end = putText(out, end, meta.subject);
  end = putText(out, end, 't');
  end = putHead(out, end, UNSIGNED, meta.ts);
  end = putText(out, end, 's');
  end = putHead(out, end, UNSIGNED, payloadBytes);
  end = putText(out, end, 'v');
  return putHead(out, end, UNSIGNED, ENVELOPE_VERSION);
}

/** The shortest head (RFC 8949 §4.2.1): `value` in the initial byte, or in 1, 2, 4 or 8 bytes behind it. @returns its end */
function putHead(out: Uint8Array, at: number, majorType: number, value: number): number {
  if (value < 24) {
    out[at] = majorType | value;
    return at + 1;
  }
  const power = value < 0x100 ? 0 : value < 0x1_0000 ? 1 : value < 0x1_0000_0000 ? 2 : 3;
  out[at] = majorType | (24 + power);
  const last = at + (1 << power);
  // Not by shifts: they end at 32 bits.
  for (let place = last, left = value; place > at; place--, left = Math.floor(left / 256)) out[place] = left % 256;
  return last + 1;
}

function putText(out: Uint8Array, at: number, text: string): number {
  const start = putHead(out, at, TEXT, text.length);
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // Few texts come here: a call to an encoder costs more than the loop.
    if (unit >= 0x80) return putUtf8(out, at, textEncoder.encode(text));
    out[start + i] = unit;
  }
  return start + text.length;
}

function putUtf8(out: Uint8Array, at: number, utf8: Uint8Array): number {
  const start = putHead(out, at, TEXT, utf8.length);
  out.set(utf8, start);
  return start + utf8.length;
}

/** cbor-x reads an integer of 64 bits as a bigint. What is over 2^53 turns into no safe integer. */
function fromInteger(value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}

function parse(bytes: Uint8Array): unknown {
  try {
    // A view of its own: cbor-x leaves a property behind on the array that it reads.
    return decoder.decode(bytes.subarray()) as unknown;
  } catch (cause) {
    throw corrupt(`expected CBOR, got what does not parse (${messageOf(cause)})`, cause);
  }
}

/** Checks that a parsed value has the schema. Keys beyond it need no check: they are gone from the re-encoding. */
function fromWire(value: unknown): Envelope {
  if (!isRecord(value)) throw corrupt('expected a map');
  const { a, d, m, s, v } = value;
  if (v !== ENVELOPE_VERSION) throw corrupt(`expected version ${ENVELOPE_VERSION}: written by a later powercut?`);
  if (a !== COSE_SHA_256) throw corrupt(`expected algorithm ${COSE_SHA_256} (SHA-256)`);
  if (!(d instanceof Uint8Array) || d.length !== SHA256_BYTES) {
    throw corrupt(`expected a digest of ${SHA256_BYTES} bytes`);
  }
  const payloadBytes = fromInteger(s);
  if (!isCount(payloadBytes)) throw corrupt('expected a payload size from 0 to 2^53 - 1');
  return {
    version: ENVELOPE_VERSION,
    algorithm: ENVELOPE_ALGORITHM,
    payloadBytes,
    digest: new Uint8Array(d),
    meta: metadataFromWire(m),
  };
}

function metadataFromWire(value: unknown): Envelope['meta'] {
  if (!isRecord(value)) throw corrupt('expected a map of metadata');
  const { p, s, t } = value;
  const ts = fromInteger(t);
  if (typeof p !== 'string' || typeof s !== 'string' || typeof ts !== 'number') {
    throw corrupt('expected metadata of two texts and an integer');
  }
  checkMetadataValues(s, p, ts, 'EINTEGRITY');
  return { subject: s, purpose: p, ts };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function corrupt(problem: string, cause?: unknown): CodedError {
  const options = cause === undefined ? undefined : { cause };
  return new CodedError('EINTEGRITY', `envelope: ${problem}: restore it from a good copy`, options);
}
