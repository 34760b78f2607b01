import { createPublicKey, verify } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { codeOf, equalBytes } from '../../src/core/index.ts';
import { StateFsError } from '../../src/statefs/index.ts';
import {
  DEVICE_KEY_PATH,
  type DeviceKey,
  Keystored,
  readDeviceKey,
  verifySignature,
} from '../../src/statefsd/index.ts';
import { MemoryPort } from './memory-port.ts';

/** RFC 8032 §7.1, test 2. */
const RFC = {
  seed: '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
  publicKey: '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
  message: '72',
  signature:
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
};
const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const MESSAGE = new TextEncoder().encode('a message');

describe('keystored', () => {
  test('signs as RFC 8032 says', async () => {
    const keystored = new Keystored(new MemoryPort(), { generateSeed: () => hex(RFC.seed) });
    const { publicKey, generation, previous } = await keystored.open();
    expect(publicKey).toEqual(hex(RFC.publicKey));
    expect([generation, previous]).toEqual([1, undefined]);
    const { signature } = await keystored.sign(hex(RFC.message));
    expect(signature).toEqual(hex(RFC.signature));
    expect(verifySignature(publicKey, hex(RFC.message), signature)).toBe(true);
  });

  test("its signatures satisfy Node's own way of reading a key", async () => {
    const keystored = new Keystored(new MemoryPort());
    const { publicKey } = await keystored.open();
    const { signature } = await keystored.sign(MESSAGE);
    const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), publicKey]);
    expect(verify(null, MESSAGE, createPublicKey({ key: der, format: 'der', type: 'spki' }), signature)).toBe(true);
  });

  test('creates one key, unlike any other, and finds it again', async () => {
    const store = new MemoryPort();
    const first = await new Keystored(store).open();
    expect(await new Keystored(store).open()).toEqual(first);
    expect(store.puts.map(({ path, purpose }) => [path, purpose])).toEqual([[DEVICE_KEY_PATH, 'device key: create']]);
    expect(equalBytes((await new Keystored(new MemoryPort()).open()).publicKey, first.publicKey)).toBe(false);
  });

  test('rotates, and each key is endorsed by the one before', async () => {
    const keystored = new Keystored(new MemoryPort());
    let last: DeviceKey = await keystored.open();
    for (let generation = 2; generation <= 4; generation++) {
      const next = await keystored.rotate();
      expect(next.generation).toBe(generation);
      expect(next.previous?.publicKey).toEqual(last.publicKey);
      expect(verifySignature(last.publicKey, next.publicKey, next.previous?.endorsement as Uint8Array)).toBe(true);
      expect((await keystored.sign(MESSAGE)).generation).toBe(generation);
      last = next;
    }
  });

  test('after a rotation whose put failed, signs with what is stored', async () => {
    const store = new MemoryPort();
    const keystored = new Keystored(store);
    const { publicKey } = await keystored.open();
    store.onPut = () => {
      throw new StateFsError('EIO', 'the disk failed');
    };
    await expect(keystored.rotate()).rejects.toThrow('the disk failed');
    const { signature, generation } = await keystored.sign(MESSAGE);
    expect(generation).toBe(1);
    expect(verifySignature(publicKey, MESSAGE, signature)).toBe(true);
  });

  test('a signature is of one key and one message', async () => {
    const keystored = new Keystored(new MemoryPort());
    const { publicKey } = await keystored.open();
    const { signature } = await keystored.sign(MESSAGE);
    const flipped = signature.slice();
    flipped[0] = (flipped[0] as number) ^ 1;
    const { publicKey: another } = await new Keystored(new MemoryPort()).open();
    expect(verifySignature(publicKey, MESSAGE, flipped)).toBe(false);
    expect(verifySignature(publicKey, MESSAGE.subarray(1), signature)).toBe(false);
    expect(verifySignature(another, MESSAGE, signature)).toBe(false);
    expect(verifySignature(publicKey.subarray(1), MESSAGE, signature)).toBe(false);
    expect(verifySignature(publicKey, MESSAGE, signature.subarray(1))).toBe(false);
  });

  test('the private half is in nothing that it gives out, and in one record', async () => {
    const store = new MemoryPort();
    const seed = hex(RFC.seed);
    const keystored = new Keystored(store, { generateSeed: () => seed.slice() });
    const given: unknown[] = [
      await keystored.open(),
      await keystored.sign(MESSAGE),
      await keystored.rotate(),
      keystored,
    ];
    store.values.set(DEVICE_KEY_PATH, (store.values.get(DEVICE_KEY_PATH) as Uint8Array).subarray(1));
    given.push(await keystored.open().catch((error: unknown) => error));
    expect(given.at(-1)).toBeInstanceOf(StateFsError);
    const told = given
      .map((one) => `${inspect(one, { depth: 9, showHidden: true })} ${JSON.stringify(one)}`)
      .join('\n');
    for (const encoding of ['hex', 'base64', 'base64url', 'latin1'] as const) {
      expect(told).not.toContain(Buffer.from(seed).toString(encoding));
    }
    expect(told).not.toContain([...seed].join(', '));
    const holding = store.puts.filter(({ payload }) => Buffer.from(payload).includes(Buffer.from(seed)));
    expect(holding.map(({ path }) => path)).toEqual([DEVICE_KEY_PATH, DEVICE_KEY_PATH]);
    for (const { purpose } of store.puts) expect(purpose).not.toContain(Buffer.from(seed).toString('hex'));
  });

  test('wipes the seed that it was given', async () => {
    const seed = hex(RFC.seed);
    await new Keystored(new MemoryPort(), { generateSeed: () => seed }).open();
    expect(seed).toEqual(new Uint8Array(32));
  });

  test('takes no bit of a record for granted: both halves, and the endorsement', async () => {
    const store = new MemoryPort();
    const keystored = new Keystored(store);
    await keystored.open();
    await keystored.rotate();
    const record = store.values.get(DEVICE_KEY_PATH) as Uint8Array;
    expect(readDeviceKey(record).generation).toBe(2);
    const accepted: number[] = [];
    for (let at = 0; at < record.length; at++) {
      const mutated = record.slice();
      mutated[at] = (mutated[at] as number) ^ 1;
      try {
        readDeviceKey(mutated);
        accepted.push(at);
      } catch (error) {
        expect(codeOf(error)).toBe('EINTEGRITY');
      }
    }
    // The generation is a count; everything else is bound.
    expect(accepted).toEqual([8, 9, 10, 11]);
    expect(() => readDeviceKey(record.subarray(1))).toThrow(/172|171 bytes/);
  });

  test('never replaces a damaged key unasked', async () => {
    const store = new MemoryPort();
    store.values.set(DEVICE_KEY_PATH, new Uint8Array(172));
    const keystored = new Keystored(store);
    for (const call of [() => keystored.open(), () => keystored.rotate(), () => keystored.sign(MESSAGE)]) {
      await expect(call()).rejects.toThrow(/expected a whole key, got another format/);
    }
    expect(store.puts).toEqual([]);
  });

  test('is asked rightly', async () => {
    const keystored = new Keystored(new MemoryPort(), { generateSeed: () => new Uint8Array(31) });
    await expect(keystored.open()).rejects.toThrow(RangeError);
    expect(() => keystored.sign('text' as unknown as Uint8Array)).toThrow(TypeError);
    await expect(keystored.sign(MESSAGE)).rejects.toThrow(/no such key/);
  });
});
