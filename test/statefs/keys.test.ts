import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isKey } from '../../src/statefs/index.ts';
import { checkKey } from '../../src/statefs/keys.ts';

function isAccepted(key: string): boolean {
  try {
    checkKey(key);
    return true;
  } catch {
    return false;
  }
}

describe('isKey', () => {
  test.each([
    ['/state/a', true],
    [`/state/${'a'.repeat(248)}`, true],
    [`/state/${'a'.repeat(249)}`, false],
    [`/state/${'é'.repeat(124)}`, true],
    [`/state/${'é'.repeat(125)}`, false],
    ['/state/', false],
    ['/state/a/', false],
    ['/state/../a', false],
    ['/state/\ud800', false],
    ['', false],
  ])('%j: %s', (key, expected) => {
    expect(isKey(key)).toBe(expected);
    expect(isAccepted(key)).toBe(expected);
  });

  test('says what the store would', () => {
    const part = fc.oneof(fc.constantFrom('.', '..', '', 'a', '\u007f'), fc.string({ unit: 'binary', maxLength: 40 }));
    const keys = fc.array(part, { maxLength: 8 }).map((parts) => `/state/${parts.join('/')}`);
    fc.assert(
      fc.property(keys, (key) => {
        expect(isKey(key)).toBe(isAccepted(key));
      }),
    );
  });
});
