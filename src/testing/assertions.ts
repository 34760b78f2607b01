import { codeOf, type ErrorCode, messageOf } from '../core/index.ts';

/** Fails a conformance case: the message says what the contract asks for and what came. */
export function fail(message: string): never {
  throw new Error(message);
}

/** Fails unless `condition` holds. */
export function expectThat(condition: boolean, message: string): asserts condition {
  if (!condition) fail(message);
}

/** Fails at the first byte in which `actual` differs from `expected`. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (actual.length !== expected.length) fail(`${what}: expected ${expected.length} bytes, got ${actual.length}`);
  for (let i = 0; i < expected.length; i++) {
    if (actual[i] !== expected[i]) fail(`${what}: byte ${i} is ${actual[i]}, expected ${expected[i]}`);
  }
}

/** Fails unless `operation` throws an error with one of the codes. */
export function expectCode(operation: () => void, codes: ErrorCode | readonly ErrorCode[], what: string): void {
  const wanted = typeof codes === 'string' ? [codes] : codes;
  const error = thrownBy(operation, `${what}: expected ${wanted.join(' or ')}`);
  if (!wanted.some((code) => code === codeOf(error))) {
    fail(`${what}: expected ${wanted.join(' or ')}, got ${codeOf(error) ?? 'no code'} (${messageOf(error)})`);
  }
}

/** Fails unless `operation` throws a TypeError. */
export function expectTypeError(operation: () => void, what: string): void {
  const error = thrownBy(operation, `${what}: expected a TypeError`);
  if (!(error instanceof TypeError)) fail(`${what}: expected a TypeError, got ${messageOf(error)}`);
}

function thrownBy(operation: () => void, expectation: string): unknown {
  try {
    operation();
  } catch (error) {
    return error;
  }
  return fail(`${expectation}, but nothing was thrown`);
}
