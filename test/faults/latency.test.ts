import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Sfc32 } from '../../src/core/index.ts';
import { chosenLatency, fixedLatency, type OperationKind, randomLatency } from '../../src/faults/index.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/faults/latency.test.ts';

const KINDS: readonly OperationKind[] = ['read', 'write', 'flush', 'discard', 'writeZeroes'];
const ms = fc.double({ min: 0, max: 1e6, noNaN: true });

/** The two ends of what a drawn number may be, and others between. */
const drawing = (drawn: number) => ({ nextU32: () => drawn, below: () => 0, fill: () => {} });

describe('latency', () => {
  const FIXED = 'fixed: that of the kind, and none where the kind is left out';
  it(FIXED, () => {
    const byKind = fc.record({ read: ms, write: ms, flush: ms, discard: ms, writeZeroes: ms }, { requiredKeys: [] });
    const property = fc.property(byKind, (given) => {
      const plan = fixedLatency(given);
      for (const kind of KINDS) expect(plan.latencyMs(kind, 3)).toBe(given[kind] ?? 0);
    });
    holdProperty(FILE, FIXED, property, { numRuns: 100 });
  });

  const RANDOM = 'random: within its bounds, which both occur, in proportion to what is drawn';
  it(RANDOM, () => {
    const property = fc.property(fc.nat({ max: 9999 }), fc.nat({ max: 9999 }), fc.nat(), (minimum, span, drawn) => {
      const of = (number: number) => randomLatency(drawing(number), minimum, minimum + span).latencyMs('read', 1);
      expect([of(0), of(0xffff_ffff)]).toEqual([minimum, minimum + span]);
      expect((of(drawn) - minimum) / Math.max(1, span)).toBeCloseTo(span === 0 ? 0 : drawn / 0xffff_ffff, 9);
    });
    holdProperty(FILE, RANDOM, property, { numRuns: 100 });
  });

  it('random: bounds that are equal are no range that is refused', () => {
    expect(randomLatency(new Sfc32(1), 7, 7).latencyMs('flush', 0)).toBe(7);
    expect(() => randomLatency(new Sfc32(1), 7, 6)).toThrow(/maximumMs: expected at least 7, got 6/);
  });

  it('chosen: one question an operation, over all alternatives, the first the undisturbed one', () => {
    const asked: [number, string][] = [];
    const choices = {
      choose: (options: number, label: string) => {
        asked.push([options, label]);
        return asked.length - 1;
      },
    };
    const plan = chosenLatency(choices, [0, 2.5, 300]);
    expect([1, 2, 3].map((count) => plan.latencyMs('write', count))).toEqual([0, 2.5, 300]);
    expect(asked).toEqual([3, 3, 3].map((options) => [options, 'latency']));
    expect(() => chosenLatency(choices, [])).toThrow(/alternativesMs: expected at least one/);
  });

  const wrong: [unknown, RegExp, typeof TypeError | typeof RangeError][] = [
    ['5', /expected a number, got string "5"/, TypeError],
    [undefined, /expected a number/, TypeError],
    [-1, /expected a finite number of at least 0, got -1/, RangeError],
    [Number.NaN, /got NaN/, RangeError],
    [Number.POSITIVE_INFINITY, /got Infinity/, RangeError],
  ];
  it.each(wrong)('%s milliseconds are refused by every plan, by name', (value, message, kind) => {
    const bad = value as number;
    const plans: [string, () => unknown][] = [
      ['flush latency', () => fixedLatency({ read: 1, flush: bad })],
      ['minimumMs', () => randomLatency(new Sfc32(1), bad, 5)],
      ['maximumMs', () => randomLatency(new Sfc32(1), 5, bad)],
      ['alternativesMs', () => chosenLatency({ choose: () => 0 }, [1, bad])],
    ];
    for (const [name, make] of plans) {
      expect(make, name).toThrow(kind);
      expect(make).toThrow(message);
      expect(make).toThrow(new RegExp(`^${name}: `));
    }
  });
});
