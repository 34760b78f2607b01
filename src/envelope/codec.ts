import { Encoder } from 'cbor-x';
import { assertBytes, CodedError, equalBytes, messageOf } from '../core/index.ts';
import { checkEnvelope, ENVELOPE_ALGORITHM, ENVELOPE_VERSION, type Envelope } from './envelope.ts';
import { checkMetadataValues, isCount, MAX_PURPOSE_BYTES, MAX_SUBJECT_BYTES } from './metadata.ts';
import { SHA256_BYTES } from './sha256.ts';

/** SHA-256 among the COSE algorithms (RFC 9054 §2.1). */
const COSE_SHA_256 = -16;

/**
 * The envelope as CBOR holds it. One-letter keys in the order of their encoded bytes (RFC 8949 §4.2.1), which is the
 * order in which cbor-x writes them: the order of the properties here is part of the format.
 */
interface Wire {
  /** Algorithm. */
  readonly a: number;
  /** Digest. */
  readonly d: Uint8Array;
  /** Metadata: purpose, subject, time. */
  readonly m: { readonly p: string; readonly s: string; readonly t: number | bigint };
  /** Size of the payload in bytes. */
  readonly s: number | bigint;
  readonly v: number;
}

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

// Plain maps with heads of least length, untagged byte strings: no extension of cbor-x is on.
const cbor = new Encoder({ useRecords: false, mapsAsObjects: true, tagUint8Array: false, variableMapSize: true });

/**
 * The one byte string of `envelope`: CBOR, core deterministic (RFC 8949 §4.2.1).
 * @returns at most {@link MAX_ENVELOPE_BYTES} bytes, a new array that the caller owns
 * @throws TypeError for a wrong type; CodedError EINVAL for a bad value, E2BIG for metadata over a cap
 */
export function encode(envelope: Envelope): Uint8Array {
  checkEnvelope(envelope);
  return new Uint8Array(encodeChecked(envelope));
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
  // cbor-x accepts many spellings of one value; the re-encoding is the only one that we accept.
  if (!equalBytes(encodeChecked(envelope), bytes)) {
    throw corrupt('expected its canonical encoding, got another spelling of the same values');
  }
  return envelope;
}

/** The encoding as a view of the encoder's own pool: to be copied, or used before the next call. */
function encodeChecked({ digest, payloadBytes, meta }: Envelope): Uint8Array {
  const wire: Wire = {
    a: COSE_SHA_256,
    d: digest,
    m: { p: meta.purpose, s: meta.subject, t: toInteger(meta.ts) },
    s: toInteger(payloadBytes),
    v: ENVELOPE_VERSION,
  };
  return cbor.encode(wire);
}

/** cbor-x writes a number of 2^32 and more as a float, but a bigint as an integer of 64 bits, which is then the least. */
function toInteger(value: number): number | bigint {
  return value > 0xffff_ffff ? BigInt(value) : value;
}

/** cbor-x reads an integer of 64 bits as a bigint. What is over 2^53 turns into no safe integer. */
function fromInteger(value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}

function parse(bytes: Uint8Array): unknown {
  try {
    // A view of its own: cbor-x leaves a property behind on the array that it reads.
    return cbor.decode(bytes.subarray());
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
