import { assertString, CodedError, describeValue, type ErrorCode } from '../core/index.ts';

/** Who put a payload there, what for, and when. */
export interface EnvelopeMetadata {
  /** Who: well-formed text of at most {@link MAX_SUBJECT_BYTES} bytes of UTF-8, without a byte order mark. */
  readonly subject: string;
  /** What for: likewise, at most {@link MAX_PURPOSE_BYTES} bytes. */
  readonly purpose: string;
  /** When: whole milliseconds since 1970-01-01T00:00:00Z, from 0 to 2^53 - 1. */
  readonly ts: number;
}

/** Cap of `subject`, in bytes of UTF-8. */
export const MAX_SUBJECT_BYTES = 128;
/** Cap of `purpose`, in bytes of UTF-8. */
export const MAX_PURPOSE_BYTES = 128;

const BYTE_ORDER_MARK = 0xfeff;

/**
 * Checks what a caller hands in.
 * @throws TypeError for a wrong type; CodedError EINVAL for a bad value, E2BIG for text over its cap
 */
export function checkMetadata(meta: EnvelopeMetadata): void {
  if (typeof meta !== 'object' || meta === null) {
    throw new TypeError(`meta: expected {subject, purpose, ts}, got ${describeValue(meta)}`);
  }
  const { subject, purpose, ts } = meta;
  assertString(subject, 'meta.subject');
  assertString(purpose, 'meta.purpose');
  if (typeof ts !== 'number') throw new TypeError(`meta.ts: expected milliseconds, got ${describeValue(ts)}`);
  checkMetadataValues(subject, purpose, ts, 'EINVAL');
}

/** Checks the values, their types being known. `badCode` is the code of a bad value: it is E2BIG over a cap. */
export function checkMetadataValues(subject: string, purpose: string, ts: number, badCode: ErrorCode): void {
  checkText(subject, 'meta.subject', MAX_SUBJECT_BYTES, badCode);
  checkText(purpose, 'meta.purpose', MAX_PURPOSE_BYTES, badCode);
  if (!isCount(ts)) {
    throw new CodedError(badCode, `meta.ts: expected whole milliseconds from 0 to 2^53 - 1, got ${describeValue(ts)}`);
  }
}

/** Whether `value` is a safe integer of at least 0. -0 is none: it has no encoding of its own. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);
}

function checkText(text: string, label: string, capBytes: number, badCode: ErrorCode): void {
  // A character is at least a byte: what is too long by characters is not walked.
  const byteCount = text.length > capBytes ? text.length : utf8Bytes(text);
  if (byteCount > capBytes) {
    throw new CodedError('E2BIG', `${label}: expected at most ${capBytes} bytes of UTF-8, got ${byteCount} or more`);
  }
  if (byteCount < 0) throw new CodedError(badCode, `${label}: expected well-formed text, got a lone surrogate`);
  // Decoders differ on it: some drop it as a signature, and the text would not come back as it went (RFC 3629 §6).
  if (text.charCodeAt(0) === BYTE_ORDER_MARK) {
    throw new CodedError(badCode, `${label}: expected text without a byte order mark, got one at its start`);
  }
}

/** Bytes of `text` as UTF-8 (RFC 3629); -1 where a lone surrogate has no such form. */
function utf8Bytes(text: string): number {
  let byteCount = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) byteCount += 1;
    else if (unit < 0x800) byteCount += 2;
    else if ((unit & 0xf800) !== 0xd800) byteCount += 3;
    else {
      const isPair = (unit & 0xfc00) === 0xd800 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00;
      if (!isPair) return -1;
      byteCount += 4;
      i += 1;
    }
  }
  return byteCount;
}
