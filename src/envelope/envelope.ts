import { assertBytes, CodedError, describeValue, equalBytes, toHex } from '../core/index.ts';
import { checkMetadata, type EnvelopeMetadata, isCount } from './metadata.ts';
import { SHA256_BYTES, sha256 } from './sha256.ts';

/** The one version that there is. */
export const ENVELOPE_VERSION = 1;
/** The one algorithm of version 1. */
export const ENVELOPE_ALGORITHM = 'sha-256';

/** What vouches for a payload: its size, its digest, and where it came from. It does not hold the payload. */
export interface Envelope {
  readonly version: typeof ENVELOPE_VERSION;
  readonly algorithm: typeof ENVELOPE_ALGORITHM;
  readonly payloadBytes: number;
  /** The payload's SHA-256, 32 bytes. */
  readonly digest: Uint8Array;
  readonly meta: EnvelopeMetadata;
}

/**
 * Makes the envelope of `payload`, which is not kept.
 * @throws TypeError for a wrong type; CodedError EINVAL for bad metadata, E2BIG for metadata over a cap
 */
export function wrap(payload: Uint8Array, meta: EnvelopeMetadata): Envelope {
  assertBytes(payload, 'payload');
  checkMetadata(meta);
  return {
    version: ENVELOPE_VERSION,
    algorithm: ENVELOPE_ALGORITHM,
    payloadBytes: payload.length,
    digest: sha256(payload),
    meta: { subject: meta.subject, purpose: meta.purpose, ts: meta.ts },
  };
}

/**
 * Returns if `payload` is the one that `envelope` vouches for.
 * @throws CodedError EINTEGRITY if not; TypeError, or CodedError EINVAL or E2BIG, for what is no envelope
 */
export function verify(envelope: Envelope, payload: Uint8Array): void {
  assertBytes(payload, 'payload');
  checkEnvelope(envelope);
  if (payload.length !== envelope.payloadBytes) {
    throw new CodedError(
      'EINTEGRITY',
      `payload: expected the ${envelope.payloadBytes} bytes of the envelope, got ${payload.length}: restore it from a good copy`,
    );
  }
  const digest = sha256(payload);
  if (!equalBytes(digest, envelope.digest)) {
    throw new CodedError(
      'EINTEGRITY',
      `payload: expected SHA-256 ${toHex(envelope.digest)}, got ${toHex(digest)}: restore it from a good copy`,
    );
  }
}

/**
 * Checks an envelope that a caller hands in.
 * @throws TypeError for a wrong type; CodedError EINVAL for a bad value, E2BIG for metadata over a cap
 */
export function checkEnvelope(envelope: Envelope): void {
  if (typeof envelope !== 'object' || envelope === null) {
    throw new TypeError(`envelope: expected an Envelope, got ${describeValue(envelope)}`);
  }
  assertBytes(envelope.digest, 'envelope.digest');
  checkMetadata(envelope.meta);
  if (envelope.version !== ENVELOPE_VERSION) refuse('version', ENVELOPE_VERSION, envelope.version);
  if (envelope.algorithm !== ENVELOPE_ALGORITHM) refuse('algorithm', ENVELOPE_ALGORITHM, envelope.algorithm);
  if (!isCount(envelope.payloadBytes)) refuse('payloadBytes', 'a safe integer of at least 0', envelope.payloadBytes);
  if (envelope.digest.length !== SHA256_BYTES) refuse('digest', `${SHA256_BYTES} bytes`, envelope.digest.length);
}

function refuse(field: string, expected: unknown, got: unknown): never {
  throw new CodedError('EINVAL', `envelope.${field}: expected ${expected}, got ${describeValue(got)}`);
}
