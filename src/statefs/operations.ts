/** Makes the operations of groups from what callers give. */
import { assertBytes, codeOf } from '../core/index.ts';
import { type Envelope, type EnvelopeMetadata, encode, wrap } from '../envelope/index.ts';
import { fail, StateFsError } from './errors.ts';
import type { GroupOperation } from './group.ts';
import { encodeKey } from './keys.ts';
import { DIGEST_BYTES, KIND_PUT } from './layout.ts';

const NO_BYTES: Uint8Array = new Uint8Array(0);
const NO_DIGEST: Uint8Array = new Uint8Array(DIGEST_BYTES);

/**
 * The operation that puts `given` under `key`.
 * @param given read until the group is written, not kept beyond
 * @throws StateFsError EINVAL, E2BIG
 */
export function putOperation(
  key: string,
  given: Uint8Array,
  meta: EnvelopeMetadata,
  maxPayloadBytes: number,
): GroupOperation {
  const keyBytes = encodeKey(key);
  assertBytes(given, 'payload');
  if (given.length > maxPayloadBytes) {
    fail(
      'E2BIG',
      `payload: expected at most ${maxPayloadBytes} bytes, got ${given.length}: raise the budget or split it`,
    );
  }
  // Another thread may write to shared memory between the digest and the disk: the value would not verify any more.
  const payload = given.buffer instanceof SharedArrayBuffer ? new Uint8Array(given) : given;
  const envelope = wrapPayload(payload, meta);
  return {
    kind: KIND_PUT,
    key,
    keyBytes,
    envelope: encode(envelope),
    payloadBytes: payload.length,
    payload,
    digest: envelope.digest,
  };
}

/** An operation without a value: a deletion, or what is known of a lost one. */
export function bareOperation(kind: number, key: string): GroupOperation {
  return {
    kind,
    key,
    keyBytes: encodeKey(key),
    envelope: NO_BYTES,
    payloadBytes: 0,
    payload: NO_BYTES,
    digest: NO_DIGEST,
  };
}

/** {@link wrap}, with its errors under the store's class. */
function wrapPayload(payload: Uint8Array, meta: EnvelopeMetadata): Envelope {
  try {
    return wrap(payload, meta);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'E2BIG' || code === 'EINVAL') throw new StateFsError(code, (error as Error).message, { cause: error });
    throw error;
  }
}
