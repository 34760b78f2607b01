/** What a value is, for a message: `number 3`, `string "a"`, `null`, `Uint8Array(12)`. */
export function describeValue(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'string')
    return `string ${JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value)}`;
  if (typeof value === 'object') {
    const name = value.constructor?.name ?? 'object';
    return ArrayBuffer.isView(value) ? `${name}(${value.byteLength})` : name;
  }
  if (typeof value === 'function') return 'function';
  return `${typeof value} ${String(value)}`;
}

/** @throws TypeError unless `value` is a Uint8Array. */
export function assertBytes(value: unknown, label: string): asserts value is Uint8Array {
  if (!(value instanceof Uint8Array))
    throw new TypeError(`${label}: expected a Uint8Array, got ${describeValue(value)}`);
}

/** @throws TypeError unless `value` is a string. */
export function assertString(value: unknown, label: string): asserts value is string {
  if (typeof value !== 'string') throw new TypeError(`${label}: expected a string, got ${describeValue(value)}`);
}

/**
 * @throws TypeError unless `value` is a number; RangeError unless it is a safe integer from `minimum` to `maximum`.
 */
export function assertInteger(
  value: unknown,
  label: string,
  minimum = 0,
  maximum: number = Number.MAX_SAFE_INTEGER,
): asserts value is number {
  if (typeof value !== 'number') throw new TypeError(`${label}: expected an integer, got ${describeValue(value)}`);
  if (!Number.isSafeInteger(value) || value < minimum || value > maximum) {
    throw new RangeError(`${label}: expected an integer from ${minimum} to ${maximum}, got ${value}`);
  }
}

/** @throws RangeError unless `value` is a power of two within the bounds. */
export function assertPowerOfTwo(
  value: unknown,
  label: string,
  minimum: number,
  maximum: number,
): asserts value is number {
  assertInteger(value, label, minimum, maximum);
  if ((value & (value - 1)) !== 0) throw new RangeError(`${label}: expected a power of two, got ${value}`);
}

/** An invariant of our own code; a failure is a defect of powercut, never of its input. */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`powercut defect: ${message}`);
}
