import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checksumOf, VersionIndex } from '../../src/faults/version-index.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/faults/version-index.test.ts';

interface Version {
  readonly checksum: number;
  readonly content: number;
}

/** Few checksums and fewer places, so that chains are long and mixed; contents that one checksum does not tell apart. */
const version = fc.record({
  checksum: fc.constantFrom(0, 1, 5, 1024, 1025, 2048, -1, -1024),
  content: fc.nat({ max: 2 }),
});

type Op =
  | { readonly do: 'push'; readonly versions: readonly Version[]; readonly times: number }
  | { readonly do: 'truncate'; readonly share: number };

const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('push' as const),
      versions: fc.array(version, { minLength: 1, maxLength: 6 }),
      // Now and then so many that the index grows.
      times: fc.constantFrom(1, 1, 1, 1, 1, 1, 1, 1, 400),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('truncate' as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
  },
);

const bytesOf = (content: number) => Uint8Array.of(content, 9);

const TITLE = 'a version is found by checksum and bytes, the newest of equal ones, until it is taken out';
test(TITLE, () => {
  const property = fc.property(fc.array(op, { maxLength: 10 }), (ops) => {
    const index = new VersionIndex();
    const model: Version[] = [];
    for (const one of ops) {
      if (one.do === 'truncate') {
        model.length = Math.round(model.length * one.share);
        index.truncate(model.length);
      } else {
        for (let i = 0; i < one.times; i++) {
          for (const pushed of one.versions) {
            model.push(pushed);
            index.push(pushed.checksum);
          }
        }
      }
      expect(index.size).toBe(model.length);
      for (const checksum of [0, 1, 5, 1024, 1025, 2048, -1, -1024, 77]) {
        for (const content of [0, 1, 2]) {
          const newest = model.findLastIndex((each) => each.checksum === checksum && each.content === content);
          const found = index.find(bytesOf(content), checksum, (each) => bytesOf((model[each] as Version).content));
          if (found !== newest)
            expect.fail(`checksum ${checksum}, content ${content}: expected ${newest}, got ${found}`);
        }
      }
    }
  });
  holdProperty(FILE, TITLE, property, { numRuns: 40 });
});

test('bytes are compared with versions of the same checksum only', () => {
  const index = new VersionIndex();
  for (const checksum of [3, 3 + 1024, 3]) index.push(checksum);
  const compared: number[] = [];
  const found = index.find(bytesOf(0), 3, (version) => {
    compared.push(version);
    return bytesOf(1);
  });
  expect(found).toBe(-1);
  expect(compared).toEqual([2, 0]);
});

test('the checksum is a CRC-32 as a signed number', () => {
  // The check value of CRC-32/ISO-HDLC.
  expect(checksumOf(Buffer.from('123456789'))).toBe(0xcbf43926 | 0);
});
