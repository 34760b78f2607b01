import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Choices, Sfc32 } from '../../src/core/index.ts';
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
  type Rest,
} from '../../src/faults/index.ts';

/** A tree of questions: what is asked next depends on what was answered. */
interface Tree {
  options: Tree[];
}
const treeOf = fc.memo(
  (depth): fc.Arbitrary<Tree> =>
    fc.record({ options: depth <= 1 ? fc.constant([]) : fc.array(treeOf(depth - 1), { maxLength: 3 }) }),
);
const tree = treeOf(5);

function walk(node: Tree, choices: Choices): number[] {
  const path: number[] = [];
  for (let at = node; at.options.length > 0; ) {
    const value = choices.choose(at.options.length, 'branch');
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

describe('DepthFirst', () => {
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
  it('names the step at which a run asks something else', () => {
    const choices = new DepthFirst();
    choices.choose(2, 'a');
    choices.choose(3, 'b');
    choices.next();
    choices.choose(2, 'a');
    expect(() => choices.choose(4, 'b')).toThrow(/choice 1 .*expected 3 options for "b", got 4/);
    const fewer = new DepthFirst();
    fewer.choose(2, 'a');
    fewer.choose(2, 'b');
    fewer.next();
    fewer.choose(2, 'a');
    expect(() => fewer.next()).toThrow(NondeterminismError);
  });
});

/** How much of the tree the leaves at these paths are, if all answers to a question weigh the same. */
function shareOf(node: Tree, paths: readonly (readonly number[])[]): number {
  return paths.reduce((sum, path) => {
    let [at, share] = [node, 1];
    for (const value of path) {
      share /= at.options.length;
      at = at.options[value]!;
    }
    return sum + share;
  }, 0);
}

describe('the rest of an enumeration', () => {
  const bounds = fc.constantFrom(Number.POSITIVE_INFINITY, 0, 1, 2);
  const within = (node: Tree, bound: number) =>
    leaves(node).filter((path) => path.filter((value) => value > 0).length <= bound);

  /** The leaves in order, leaving off after every `every` of them and going on with what is left. */
  function inParts(node: Tree, bound: number, every: number, part?: Rest): number[][] {
    const enumeration = new DepthFirst(bound, part);
    const paths: number[][] = [];
    for (;;) {
      paths.push(walk(node, enumeration));
      if (paths.length === every) break;
      if (!enumeration.next()) return paths;
    }
    const rest = enumeration.rest();
    expect(rest.length).toBeLessThanOrEqual(2);
    return [...paths, ...rest.flatMap((one) => inParts(node, bound, every, one))];
  }

  it('is visited by its parts: every leaf once, in order, whatever the bound', () => {
    fc.assert(
      fc.property(tree, bounds, fc.integer({ min: 1, max: 4 }), (node, bound, every) => {
        expect(inParts(onlyChoices(node), bound, every)).toEqual(within(onlyChoices(node), bound));
      }),
    );
  });
  it('says how much of the whole its parts are, and shares the open choices evenly', () => {
    fc.assert(
      fc.property(tree, fc.integer({ min: 1, max: 6 }), (given, runs) => {
        const node = onlyChoices(given);
        const enumeration = new DepthFirst();
        const done: number[][] = [];
        do done.push(walk(node, enumeration));
        while (done.length < runs && enumeration.next());
        const rest = enumeration.rest();
        const parts = rest.map((part) => visitedFrom(node, part));
        expect(rest.map(({ share }) => share)).toEqual(parts.map((paths) => expect.closeTo(shareOf(node, paths), 10)));
        expect(shareOf(node, [...done, ...parts.flat()])).toBeCloseTo(1, 10);
        const last = done.at(-1)!;
        const open = last.filter((value, at) => value + 1 < optionsAt(node, last.slice(0, at))).length;
        expect(rest.length).toBe(Math.min(open, 2));
      }),
    );
  });
  it('starts without anything in common but its start', () => {
    expect(new DepthFirst().sharedCount).toBe(-1);
    expect(new DepthFirst(1, { start: [0, 1], fixed: 1 }).sharedCount).toBe(1);
  });
  it('of random choices can not be told', () => {
    const random = new RandomChoices(new Sfc32(1));
    expect([random.next(), random.rest(), random.sharedCount]).toEqual([true, [], -1]);
  });

  /** The same tree without the nodes at which there is nothing to choose. */
  function onlyChoices(node: Tree): Tree {
    const options = node.options.map(onlyChoices);
    return options.length === 1 ? options[0]! : { options };
  }

  function optionsAt(node: Tree, path: readonly number[]): number {
    return path.reduce((at, value) => at.options[value]!, node).options.length;
  }

  function visitedFrom(node: Tree, part: Rest): number[][] {
    return visited(node, new DepthFirst(Number.POSITIVE_INFINITY, part));
  }
});

describe('RandomChoices', () => {
  it('takes each option about as often, and a fault once in eight times at most', () => {
    const random = new RandomChoices(new Sfc32(7));
    const counts = [0, 0, 0];
    let faults = 0;
    for (let i = 0; i < 3000; i++) {
      counts[random.choose(3, 'sector')]!++;
      if (random.choose(2, FAULT_LABEL) === 1) faults++;
      expect(random.choose(1, 'none')).toBe(0);
    }
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
    // Half of an eighth.
    expect(Math.abs(faults - 3000 / 16)).toBeLessThan(60);
  });
});

describe('bounds', () => {
  it('are whole numbers; none is no bound', () => {
    expect(() => new Bounded(Number.POSITIVE_INFINITY)).toThrow(/^bound: /);
    expect(() => new DepthFirst(-1)).toThrow(/^bound: /);
    expect(() => new DepthFirst(0.5)).toThrow(/^bound: /);
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
});

it('a profile that there is not is refused by name', () => {
  expect(() => profileOf('ssd' as never)).toThrow(/expected one of nvme-512, 4kn, 512e, harsh.*"ssd"/);
});
