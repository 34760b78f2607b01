import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { type Choices, codeOf, Sfc32 } from '../../src/core/index.ts';
import { FAULT_LABEL } from '../../src/faults/choices.ts';
import {
  Bounded,
  ChoiceRecorder,
  DepthFirst,
  type Enumeration,
  NondeterminismError,
  profileOf,
  RandomChoices,
  RecordedChoices,
} from '../../src/faults/index.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/faults/choices.test.ts';

/** A tree of questions: what is asked next depends on what was answered. */
interface Tree {
  options: Tree[];
}
const treeOf = fc.memo(
  (depth): fc.Arbitrary<Tree> =>
    fc.record({ options: depth <= 1 ? fc.constant([]) : fc.array(treeOf(depth - 1), { maxLength: 3 }) }),
);
const tree = treeOf(5);

/** Each question has a label of its own. */
function walk(node: Tree, choices: Choices): number[] {
  const path: number[] = [];
  for (let at = node; at.options.length > 0; ) {
    const value = choices.choose(at.options.length, `after ${path}`);
    path.push(value);
    at = at.options[value]!;
  }
  return path;
}

function leaves(node: Tree, prefix: number[] = []): number[][] {
  if (node.options.length === 0) return [prefix];
  return node.options.flatMap((child, i) => leaves(child, [...prefix, i]));
}

function visited(node: Tree, enumeration: Enumeration): number[][] {
  const paths: number[][] = [];
  do paths.push(walk(node, enumeration));
  while (enumeration.next());
  return paths;
}

const deviationsIn = (path: readonly number[]) => path.filter((value) => value > 0).length;

/** How much of the tree a leaf is, if all answers to a question weigh the same. */
function weightOf(node: Tree, path: readonly number[]): number {
  let weight = 1;
  let at = node;
  for (const value of path) {
    weight /= at.options.length;
    at = at.options[value] as Tree;
  }
  return weight;
}

/** Whether the whole subtree in which `leaf` leaves `path` is behind it, and may be visited within the bound. */
function isLeft(path: readonly number[], leaf: readonly number[], bound: number): boolean {
  const at = leaf.findIndex((value, i) => value !== path[i]);
  return at >= 0 && (leaf[at] as number) > (path[at] as number) && deviationsIn(leaf.slice(0, at + 1)) <= bound;
}

/** A question with one answer is no choice, and leaves no mark on the path. */
const choicesIn = (node: Tree, path: readonly number[]): number[] => {
  let at = node;
  return path.filter((value) => {
    const isChoice = at.options.length > 1;
    at = at.options[value] as Tree;
    return isChoice;
  });
};

const bounds = fc.constantFrom(0, 1, 2, 3, Number.POSITIVE_INFINITY);

describe('DepthFirst', () => {
  const HANDED_ON = 'what is left after some runs, handed on in parts again and again, is visited once and in order';
  it(HANDED_ON, () => {
    const property = fc.property(tree, bounds, fc.array(fc.nat({ max: 6 }), { minLength: 1 }), (node, bound, runs) => {
      let turn = 0;
      const visit = (enumeration: Enumeration): number[][] => {
        const paths: number[][] = [];
        for (let left = runs[turn++ % runs.length] as number; ; left--) {
          paths.push(walk(node, enumeration));
          if (left <= 0) break;
          if (!enumeration.next()) return paths;
        }
        return [...paths, ...enumeration.rest().flatMap((part) => visit(new DepthFirst(bound, part)))];
      };
      const within = leaves(node).filter((path) => deviationsIn(path) <= bound);
      expect(visit(new DepthFirst(bound))).toEqual(within);
    });
    holdProperty(FILE, HANDED_ON, property, { numRuns: 100 });
  });

  const SHARES =
    'the parts of what is left have as many open choices, but for one, and say how much of the tree they are';
  it(SHARES, () => {
    const property = fc.property(tree, bounds, fc.nat({ max: 20 }), (node, bound, runs) => {
      const enumeration = new DepthFirst(bound);
      let path = walk(node, enumeration);
      for (let i = 0; i < runs && enumeration.next(); i++) path = walk(node, enumeration);
      const left = leaves(node).filter((leaf) => isLeft(path, leaf, bound));
      const leavesAt = (leaf: readonly number[]) => leaf.findIndex((value, i) => value !== path[i]);
      const open = [...new Set(left.map(leavesAt))].sort((a, b) => b - a);
      const half = Math.ceil(open.length / 2);
      const parts = [open.slice(0, half), open.slice(half)].filter((part) => part.length > 0);
      const rest = enumeration.rest();
      expect(rest.length).toBe(parts.length);
      for (const [i, part] of parts.entries()) {
        const inPart = left.filter((leaf) => part.includes(leavesAt(leaf)));
        const [first] = inPart.filter((leaf) => leavesAt(leaf) === part[0]) as [number[]];
        expect(rest[i]?.start).toEqual(choicesIn(node, first.slice(0, (part[0] as number) + 1)));
        expect(rest[i]?.share).toBeCloseTo(
          inPart.reduce((sum, leaf) => sum + weightOf(node, leaf), 0),
          9,
        );
        expect(new DepthFirst(bound, rest[i]).sharedCount).toBe((rest[i]?.start.length ?? 0) - 1);
      }
    });
    holdProperty(FILE, SHARES, property, { numRuns: 200 });
  });

  it('visits every leaf once, in order', () => {
    fc.assert(
      fc.property(tree, (node) => {
        expect(visited(node, new DepthFirst())).toEqual(leaves(node));
      }),
    );
  });
  it('with a bound visits exactly the leaves with so many deviations', () => {
    fc.assert(
      fc.property(tree, fc.nat({ max: 3 }), (node, bound) => {
        const within = leaves(node).filter((path) => path.filter((value) => value > 0).length <= bound);
        expect(visited(node, new Bounded(bound))).toEqual(within);
      }),
    );
  });
  it('says how much of a run the one before shared', () => {
    fc.assert(
      fc.property(tree, (node) => {
        const enumeration = new DepthFirst();
        let before: number[] | undefined;
        do {
          const { sharedCount } = enumeration;
          const recorder = new ChoiceRecorder(enumeration);
          walk(node, recorder);
          const shared = before === undefined ? -1 : recorder.values.findIndex((value, i) => value !== before?.[i]);
          expect(sharedCount).toBe(shared);
          before = recorder.values;
        } while (enumeration.next());
      }),
    );
  });
  it('a question with one answer, or none, is no choice', () => {
    const choices = new DepthFirst();
    for (const expected of [0, 1]) {
      expect([choices.choose(1, 'a'), choices.choose(2, 'b'), choices.choose(0, 'c')]).toEqual([0, expected, 0]);
      expect(choices.next()).toBe(expected === 0);
    }
  });
  it('names the step at which a run asks something else', () => {
    const twice = (...asked: [options: number, label: string][]) => {
      const choices = new DepthFirst();
      choices.choose(2, 'a');
      choices.choose(3, 'b');
      choices.next();
      for (const [options, label] of asked) choices.choose(options, label);
      return choices;
    };
    const differs = (run: () => unknown, step: number, message: RegExp) => {
      const error = thrownBy(run);
      expect(error).toBeInstanceOf(NondeterminismError);
      expect(error).toMatchObject({ name: 'NondeterminismError', step });
      expect((error as Error).message).toMatch(message);
    };
    differs(() => twice([2, 'a'], [4, 'b']), 1, /^choice 1 .*expected 3 options for "b", got 4 for "b"/);
    differs(() => twice([2, 'a'], [2, 'b']), 1, /expected 3 options for "b", got 2/);
    differs(() => twice([2, 'a'], [3, 'c']), 1, /expected 3 options for "b", got 3 for "c"/);
    differs(() => twice([3, 'b']), 0, /expected 2 options for "a", got 3 for "b"/);
    differs(() => twice([2, 'a']).next(), 1, /expected a choice of "b", got none/);
    expect(twice([2, 'a'], [3, 'b'], [9, 'new']).next()).toBe(true);
  });
  it('names the step of a start that another tree has left', () => {
    const from = (start: number[]) => new DepthFirst(5, { start, fixed: 0 });
    for (const value of [2, 3]) {
      expect(() => from([value]).choose(2, 'a')).toThrow(`expected over ${value} options for "a", got 2`);
    }
    expect(from([1]).choose(2, 'a')).toBe(1);
    expect(() => from([1]).next()).toThrow(/choice 0 .*expected a choice of "the start", got none/);
  });
  it('a bound is a whole number, or none', () => {
    expect(() => new DepthFirst(1.5)).toThrow(/bound/);
    expect(() => new DepthFirst(-1)).toThrow(/bound/);
    expect(() => new Bounded(Number.POSITIVE_INFINITY)).toThrow(/bound/);
  });
});

describe('RandomChoices', () => {
  /** Draws these, in turn, and notes the bounds. */
  const drawing = (draws: readonly number[]) => {
    const asked: number[] = [];
    return {
      asked,
      nextU32: () => 0,
      fill: () => {},
      below: (bound: number) => draws[asked.push(bound) - 1] as number,
    };
  };
  it('draws each choice, uniformly; a question with one answer, or none, draws nothing', () => {
    const prng = drawing([4, 0, 1]);
    const choices = new RandomChoices(prng);
    expect([5, 1, 0, 2, 3].map((options) => choices.choose(options, 'sector version'))).toEqual([4, 0, 0, 0, 1]);
    expect(prng.asked).toEqual([5, 2, 3]);
  });
  it('one in eight questions about a fault may get one', () => {
    const prng = drawing([7, 1, 0, 2, 0, 0]);
    const choices = new RandomChoices(prng);
    expect([1, 2, 3, 4].map(() => choices.choose(3, FAULT_LABEL))).toEqual([0, 0, 2, 0]);
    expect(prng.asked).toEqual([8, 8, 8, 3, 8, 3]);
  });
  it('never ends, and leaves nothing to others', () => {
    const choices = new RandomChoices(new Sfc32(1));
    expect([choices.next(), choices.rest(), choices.sharedCount]).toEqual([true, [], -1]);
  });
});

describe('RecordedChoices', () => {
  it('repeats, then takes 0, and refuses what is no option', () => {
    const choices = new RecordedChoices([1, 5]);
    expect(choices.choose(2, 'a')).toBe(1);
    expect(choices.choose(1, 'no choice')).toBe(0);
    expect(() => choices.choose(3, 'b')).toThrow(/recorded choice 1 \("b"\): expected 0 to 2, got 5/);
    expect(choices.choose(3, 'c')).toBe(0);
    expect(choices.taken).toBe(2);
  });
  it('says how much of the list was taken, and takes whole numbers within the options only', () => {
    const choices = new RecordedChoices([1, 0, 2, -1, 0.5]);
    expect(choices.taken).toBe(0);
    choices.choose(2, 'a');
    choices.choose(0, 'none');
    expect(choices.taken).toBe(1);
    expect(choices.choose(2, 'b')).toBe(0);
    expect(() => choices.choose(2, 'c')).toThrow(/recorded choice 2 .*expected 0 to 1, got 2/);
    expect(() => choices.choose(2, 'd')).toThrow(/got -1/);
    expect(codeOf(thrownBy(() => choices.choose(2, 'e')))).toBe('EINVAL');
    expect([choices.choose(2, 'f'), choices.choose(2, 'g'), choices.taken]).toEqual([0, 0, 5]);
  });
});

test('a recorder passes choices on, and keeps those that were any', () => {
  const recorder = new ChoiceRecorder(new RecordedChoices([1, 2]));
  expect([recorder.choose(2, 'a'), recorder.choose(1, 'b'), recorder.choose(0, 'c'), recorder.choose(3, 'd')]).toEqual([
    1, 0, 0, 2,
  ]);
  expect(recorder.choices).toEqual([
    { label: 'a', options: 2, value: 1 },
    { label: 'd', options: 3, value: 2 },
  ]);
  expect(recorder.values).toEqual([1, 2]);
});

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

it('a profile that there is not is refused by name', () => {
  expect(() => profileOf('ssd' as never)).toThrow(/expected one of nvme-512, 4kn, 512e, harsh.*"ssd"/);
});
