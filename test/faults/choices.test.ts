import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Choices } from '../../src/core/index.ts';
import {
  Bounded,
  ChoiceRecorder,
  DepthFirst,
  type Enumeration,
  NondeterminismError,
  profileOf,
  RecordedChoices,
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
