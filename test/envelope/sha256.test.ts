import * as nodeCrypto from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { toHex } from '../../src/core/index.ts';
import { createSha256, sha256 } from '../../src/envelope/index.ts';
import { engineOf, nativeEngine, portableEngine, type Sha256Engine } from '../../src/envelope/sha256.ts';

const EMPTY_DIGEST = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const ABC_DIGEST = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';

const ENGINES: [string, Sha256Engine][] = [
  ['chosen', { hash: sha256, create: createSha256 }],
  ['node:crypto, one-shot', nativeEngine(nodeCrypto)],
  ['node:crypto before 20.12', nativeEngine({ ...nodeCrypto, hash: undefined as never })],
  ['@noble/hashes', portableEngine],
];

describe.each(ENGINES)('SHA-256: %s', (_name, engine) => {
  test('FIPS 180-4 examples', () => {
    expect(toHex(engine.hash(new Uint8Array()))).toBe(EMPTY_DIGEST);
    expect(toHex(engine.hash(new TextEncoder().encode('abc')))).toBe(ABC_DIGEST);
    expect(toHex(engine.create().digest())).toBe(EMPTY_DIGEST);
  });

  test('agrees with @noble/hashes, whole and in pieces', () => {
    const pieces = fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 6 });
    fc.assert(
      fc.property(pieces, (parts) => {
        const whole = new Uint8Array(parts.flatMap((part) => [...part]));
        const incremental = engine.create();
        for (const part of parts) incremental.update(part);
        const expected = portableEngine.hash(whole);
        expect(incremental.digest()).toEqual(expected);
        expect(engine.hash(whole)).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  });

  test('gives plain arrays that share nothing', () => {
    const bytes = new Uint8Array(64);
    const first = engine.hash(bytes);
    const copy = first.slice();
    engine.hash(new Uint8Array(3));
    expect(Object.getPrototypeOf(first)).toBe(Uint8Array.prototype);
    expect(Object.getPrototypeOf(engine.create().update(bytes).digest())).toBe(Uint8Array.prototype);
    expect(first).toEqual(copy);
  });
});

test('a wrong type is a TypeError', () => {
  expect(() => sha256('abc' as never)).toThrow(TypeError);
});

describe('the engine of a host', () => {
  const withCrypto = (crypto: typeof nodeCrypto | undefined) => ({ process: { getBuiltinModule: () => crypto } });

  test('is plain JavaScript where there is no node:crypto', () => {
    for (const host of [{}, { process: {} }, withCrypto(undefined)]) expect(engineOf(host)).toBe(portableEngine);
  });

  test('is node:crypto where there is one, in one call where it has that', () => {
    const abc = new TextEncoder().encode('abc');
    const absent = () => {
      throw new Error('not to be called');
    };
    expect(toHex(engineOf(withCrypto({ ...nodeCrypto, createHash: absent })).hash(abc))).toBe(ABC_DIGEST);
    const older = engineOf(withCrypto({ ...nodeCrypto, hash: undefined as never }));
    expect(older).not.toBe(portableEngine);
    expect(toHex(older.hash(abc))).toBe(ABC_DIGEST);
  });
});
