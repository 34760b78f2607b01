import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VersionPool, ZERO_VERSION } from '../../src/faults/version-pool.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/faults/version-pool.test.ts';
const BYTES = 8;

type Op =
  | { readonly do: 'add'; readonly first: number; readonly count: number; readonly offset: number }
  | { readonly do: 'release' | 'rewind'; readonly share: number }
  | { readonly do: 'reset' };

const share = fc.double({ min: 0, max: 1, noNaN: true });
const add: fc.Arbitrary<Op> = fc.record({
  do: fc.constant('add' as const),
  first: fc.nat({ max: 30 }),
  // Now and then more than fit in a chunk.
  count: fc.constantFrom(1, 2, 3, 5, 5, 5, 5, 5, 300),
  offset: fc.nat({ max: 3 }),
});
const rare = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('release' as const, 'rewind' as const), share }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reset' as const) }) },
);
const ops = fc.array(fc.oneof({ weight: 3, arbitrary: add }, { weight: 2, arbitrary: rare }), { maxLength: 10 });

const contentOf = (number: number): Uint8Array => new Uint8Array(Float64Array.of(number).buffer);
const numberIn = (bytes: Uint8Array): number => Buffer.from(bytes.buffer, bytes.byteOffset).readDoubleLE();

/** What a pool holds: the content of each number that was given out and not given back. */
class Model {
  readonly interns: boolean;
  contents = new Map<number, number>([[ZERO_VERSION, 0]]);
  free: number[] = [];
  size = 1;

  constructor(interns: boolean) {
    this.interns = interns;
  }

  copy(): Model {
    const copy = new Model(this.interns);
    copy.contents = new Map(this.contents);
    copy.free = [...this.free];
    copy.size = this.size;
    return copy;
  }

  /** Numbers that `content` may get. */
  expected(content: number): number[] {
    const known = [...this.contents].filter(([, one]) => one === content).map(([version]) => version);
    if (this.interns && known.length > 0) return known;
    return this.free.length > 0 ? this.free : [this.size];
  }

  take(version: number, content: number): void {
    this.contents.set(version, content);
    this.free = this.free.filter((one) => one !== version);
    this.size = Math.max(this.size, version + 1);
  }
}

function run(pool: VersionPool, model: Model, steps: readonly Op[]): void {
  for (const step of steps) {
    switch (step.do) {
      case 'add':
        for (let i = 0; i < step.count; i++) {
          const content = step.first + i;
          const source = new Uint8Array(step.offset + BYTES + (i % 2) * step.offset).fill(0xee);
          source.set(contentOf(content), step.offset);
          const version = pool.add(source, step.offset);
          if (step.count < 10) expect(model.expected(content)).toContain(version);
          model.take(version, content);
        }
        break;
      case 'release': {
        if (model.interns) break;
        const held = [...model.contents.keys()];
        const version = held[Math.round((held.length - 1) * step.share)] as number;
        pool.release(version);
        if (version === ZERO_VERSION) break;
        model.contents.delete(version);
        model.free.push(version);
        break;
      }
      case 'rewind': {
        // Not to be mixed with releasing.
        if (!model.interns) break;
        const size = 1 + Math.round((model.size - 1) * step.share);
        pool.rewind(size);
        for (const version of [...model.contents.keys()]) if (version >= size) model.contents.delete(version);
        model.size = size;
        break;
      }
      case 'reset':
        pool.reset();
        model.contents = new Map([[ZERO_VERSION, 0]]);
        model.free = [];
        model.size = 1;
        break;
    }
    agree(pool, model);
  }
}

function agree(pool: VersionPool, model: Model): void {
  expect(pool.size).toBe(model.size);
  expect(pool.interns).toBe(model.interns);
  const wrong = [...model.contents].filter(([version, content]) => numberIn(pool.view(version)) !== content);
  expect(wrong).toEqual([]);
}

for (const interns of [false, true]) {
  const title = `a number means its bytes until it is given back, and is given out again then; equal bytes one number: ${interns}`;
  test(title, () => {
    const property = fc.property(ops, ops, (first, more) => {
      const pool = new VersionPool(BYTES, interns);
      const model = new Model(interns);
      run(pool, model, first);
      const [twin, twinModel] = [pool.clone(), model.copy()];
      agree(twin, twinModel);
      run(twin, twinModel, more);
      agree(pool, model);
      run(pool, model, more);
    });
    holdProperty(FILE, title, property, { numRuns: 30 });
  });
}

test('without interning, numbers may be taken back instead of given back', () => {
  const pool = new VersionPool(BYTES, false);
  const numbers = [1, 2, 3].map((content) => pool.add(contentOf(content), 0));
  pool.rewind(2);
  expect([pool.size, pool.add(contentOf(9), 0), numberIn(pool.view(1))]).toEqual([2, numbers[1], 1]);
});
