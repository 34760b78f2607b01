import { crc32c as native } from '@node-rs/crc32';
import { describe, expect, test } from 'vitest';
import { Sfc32 } from '../../src/core/index.ts';
import { crc32c } from '../../src/statefs/checksum.ts';

describe('CRC32-C', () => {
  test('gives the checksum of the nine digits that every description of it has', () => {
    const digits = Uint8Array.from('123456789', (letter) => letter.charCodeAt(0));
    expect(crc32c(digits, 0, 9, 0)).toBe(0xe306_9283);
  });

  // RFC 3720, appendix B.4.
  test.each([
    ['zeros', () => 0, 0x8a91_36aa],
    ['ones', () => 0xff, 0x62a8_ab43],
    ['counting up', (at: number) => at, 0x46dd_794e],
    ['counting down', (at: number) => 31 - at, 0x113f_db5c],
  ])('gives that of 32 bytes of %s', (_name, byteAt, expected) => {
    const bytes = Uint8Array.from({ length: 32 }, (_, at) => byteAt(at));
    expect(crc32c(bytes, 0, 32, 0)).toBe(expected);
  });

  test('is that of the library for every length, place and seed', () => {
    const bytes = new Uint8Array(400);
    new Sfc32(1).fill(bytes);
    const seeds = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    for (let length = 0; length <= 260; length++) {
      const start = length % 7;
      const seed = seeds[length % seeds.length]!;
      expect(crc32c(bytes, start, start + length, seed), `${length} bytes`).toBe(
        native(bytes.subarray(start, start + length), seed),
      );
    }
  });

  test('goes on from what came before', () => {
    const bytes = Uint8Array.from({ length: 300 }, (_, at) => at * 7);
    const whole = crc32c(bytes, 0, 300, 5);
    for (const split of [1, 63, 150, 299]) {
      expect(crc32c(bytes, split, 300, crc32c(bytes, 0, split, 5))).toBe(whole);
    }
  });
});
