import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isKey, StateFsError } from '../../src/statefs/index.ts';
import { checkKey, checkPrefix, decodeKey, encodeKey } from '../../src/statefs/keys.ts';
import { holdProperty } from '../property/replay.ts';
import { codeThrown } from './helpers.ts';

const FILE = 'test/statefs/keys.test.ts';

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

/** What docs/storage/statefs.md says of a key, but for its length. */
function isWellFormed(key: string): boolean {
  const parts = key.split('/');
  const names = parts.slice(2);
  return (
    parts[0] === '' &&
    parts[1] === 'state' &&
    names.length > 0 &&
    names.every((name) => !['', '.', '..'].includes(name)) &&
    // A surrogate without its other half has no UTF-8.
    Buffer.from(key).toString() === key &&
    [...key].every((one) => one >= ' ' && one !== '\u007f')
  );
}

describe('a key', () => {
  const name = fc.oneof(
    fc.constantFrom('.', '..', '...', '.a', 'a.', '', 'a', 'é', '\u001f', ' ', '~', '\u007f', '\u0080', '\ud800'),
    fc.string({ unit: 'binary', maxLength: 9 }),
    fc.integer({ min: 60, max: 130 }).map((length) => 'x'.repeat(length)),
    fc.integer({ min: 25, max: 90 }).map((length) => '€'.repeat(length)),
  );
  const root = fc.constantFrom('/state/', '/state/', '/state/', '/state', '/stat/', 'state/', '');
  const keys = fc.tuple(root, fc.array(name, { maxLength: 4 })).map(([start, names]) => start + names.join('/'));

  test('is taken if it is well-formed and at most 255 bytes long, and comes back from its bytes', () => {
    const title = 'is taken if it is well-formed and at most 255 bytes long, and comes back from its bytes';
    const property = fc.property(keys, (key) => {
      const isShort = Buffer.byteLength(key) <= 255;
      const code = isWellFormed(key) ? (isShort ? 'none' : 'E2BIG') : key.length > 255 ? 'E2BIG' : 'EINVAL';
      expect(codeThrown(() => checkKey(key))).toBe(code);
      expect(codeThrown(() => encodeKey(key))).toBe(code);
      expect(isKey(key)).toBe(code === 'none');
      if (code === 'none') expect(Buffer.compare(encodeKey(key), Buffer.from(key))).toBe(0);
      // A reader has looked at the length before.
      if (Buffer.from(key).toString() !== key) return;
      expect(decodeKey(new TextEncoder().encode(key))).toBe(isWellFormed(key) ? key : undefined);
    });
    holdProperty(FILE, title, property, { numRuns: 400 });
  });

  test('is none in bytes that are no UTF-8, and a byte order mark is a part of it', () => {
    const start = [...new TextEncoder().encode('/state/')];
    for (const rest of [[0xff], [0x80], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xe2, 0x82]]) {
      expect(decodeKey(Uint8Array.from([...start, ...rest]))).toBe(undefined);
    }
    expect(decodeKey(new TextEncoder().encode('\ufeff/state/a'))).toBe(undefined);
    expect(decodeKey(new TextEncoder().encode('/state/\ufeffa'))).toBe('/state/\ufeffa');
  });

  test('has a prefix, which is any start of one', () => {
    for (const prefix of ['', '/', '/st', '/state', '/state/', '/state/a', '/state/../', '/state//']) {
      expect(codeThrown(() => checkPrefix(prefix))).toBe('none');
    }
    for (const prefix of ['a', '/x', '/statf', '/state.', 'state/', ' /state/']) {
      expect(codeThrown(() => checkPrefix(prefix))).toBe('EINVAL');
      expect(() => checkPrefix(prefix)).toThrow(StateFsError);
    }
    for (const wrong of [7, undefined, null]) {
      expect(() => checkPrefix(wrong as unknown as string)).toThrow(TypeError);
      expect(() => checkKey(wrong as unknown as string)).toThrow(TypeError);
      expect(() => encodeKey(wrong as unknown as string)).toThrow(TypeError);
    }
    expect(() => checkPrefix('x'.repeat(1_000_000))).toThrow(/^.{0,200}$/);
    expect(() => checkKey(`/state/${'x'.repeat(1_000_000)}`)).toThrow(/^.{0,200}$/);
  });
});
