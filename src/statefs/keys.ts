import { assertString } from '../core/index.ts';
import { fail } from './errors.ts';
import { MAX_KEY_BYTES } from './layout.ts';

/** Every key stands under this root. */
export const KEY_ROOT = '/state/';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const SLASH = 0x2f;
const DOT = 0x2e;
const DELETE = 0x7f;

/**
 * Checks a key and encodes it.
 * @returns its UTF-8 bytes, the caller's
 * @throws TypeError for what is no string; StateFsError E2BIG over 255 bytes, EINVAL for a malformed key
 */
export function encodeKey(key: string): Uint8Array {
  checkKey(key);
  const bytes = new Uint8Array(key.length);
  for (let i = 0; i < key.length; i++) {
    const unit = key.charCodeAt(i);
    // Few keys come here: a call to an encoder costs more than the loop.
    if (unit > DELETE) return encoder.encode(key);
    bytes[i] = unit;
  }
  return bytes;
}

/** Checks a key, as {@link encodeKey} does. */
export function checkKey(key: string): void {
  assertString(key, 'key');
  // A UTF-16 unit is at least a byte: what can't fit is not walked.
  if (key.length > MAX_KEY_BYTES) failTooLong(key.length);
  const fault = faultOf(key);
  if (fault !== undefined) fail('EINVAL', `key: expected ${KEY_ROOT}name/..., got ${JSON.stringify(key)}: ${fault}`);
  // A UTF-16 unit is at most three bytes: what surely fits is not counted.
  if (3 * key.length <= MAX_KEY_BYTES) return;
  const byteCount = Buffer.byteLength(key);
  if (byteCount > MAX_KEY_BYTES) failTooLong(byteCount);
}

/** The key in bytes read from a disk, or undefined where they are no key that a store would have written. */
export function decodeKey(bytes: Uint8Array): string | undefined {
  try {
    const key = decoder.decode(bytes);
    return faultOf(key) === undefined ? key : undefined;
  } catch {
    return undefined;
  }
}

/** Whether `key` is one that a store would take. */
export function isKey(key: string): boolean {
  if (key.length > MAX_KEY_BYTES || faultOf(key) !== undefined) return false;
  // A UTF-16 unit is at most three bytes: what fits so is not measured.
  return key.length * 3 <= MAX_KEY_BYTES || Buffer.byteLength(key) <= MAX_KEY_BYTES;
}

/** Checks a prefix for `list`: any start of a key, the empty string included. */
export function checkPrefix(prefix: string): void {
  assertString(prefix, 'prefix');
  const common = Math.min(prefix.length, KEY_ROOT.length);
  if (prefix.slice(0, common) !== KEY_ROOT.slice(0, common)) {
    fail('EINVAL', `prefix: expected a start of ${KEY_ROOT}..., got ${JSON.stringify(prefix.slice(0, 80))}`);
  }
}

function failTooLong(length: number): never {
  fail('E2BIG', `key: expected at most ${MAX_KEY_BYTES} bytes of UTF-8, got ${length} or more: shorten it`);
}

/** What is wrong with a key; one pass, since recovery asks it for every record. */
function faultOf(key: string): string | undefined {
  if (!key.startsWith(KEY_ROOT)) return `it must start with ${KEY_ROOT}`;
  if (!key.isWellFormed()) return 'it has an unpaired surrogate';
  let partStart = KEY_ROOT.length;
  let areDots = true;
  for (let at = partStart; at <= key.length; at++) {
    const unit = at === key.length ? SLASH : key.charCodeAt(at);
    if (unit < 0x20 || unit === DELETE) return 'it has a control character';
    if (unit !== SLASH) {
      areDots &&= unit === DOT;
      continue;
    }
    if (areDots && at - partStart <= 2) return `a part of it is ${JSON.stringify(key.slice(partStart, at))}`;
    partStart = at + 1;
    areDots = true;
  }
  return undefined;
}
