import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NO_NODE, resized, VersionNodes } from '../../src/faults/version-nodes.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/faults/version-nodes.test.ts';

interface Node {
  readonly version: number;
  readonly stamp: number;
}
/** A list, newest first, with the number of its head. */
interface List {
  readonly head: number;
  readonly nodes: readonly Node[];
}

const EMPTY: List = { head: NO_NODE, nodes: [] };

function pushed(nodes: VersionNodes, { head, nodes: older }: List, node: Node): List {
  return { head: nodes.push(node.version, head, node.stamp), nodes: [node, ...older] };
}

function nodesOf(nodes: VersionNodes, head: number): Node[] {
  const found: Node[] = [];
  for (let node = head; node !== NO_NODE; node = nodes.older[node] as number) {
    found.push({ version: nodes.version[node] as number, stamp: nodes.stamp[node] as number });
  }
  return found;
}

/** Everything that can be asked about a list. */
function agree(nodes: VersionNodes, list: List): void {
  const versions = [...new Set(list.nodes.map(({ version }) => version))];
  const held = [0, 1, 2, 3, 4, 5].filter((version) => nodes.holds(list.head, version));
  const picked = versions.map((_, index) => nodesOf(nodes, nodes.pick(list.head, index)));
  const newest = versions.map((version) => list.nodes.findIndex((one) => one.version === version));
  expect({ nodes: nodesOf(nodes, list.head), distinct: nodes.distinct[list.head], held, picked }).toEqual({
    nodes: list.nodes,
    distinct: versions.length,
    held: versions.toSorted((a, b) => a - b),
    picked: newest.map((at) => list.nodes.slice(at)),
  });
}

const node = fc.record({ version: fc.nat({ max: 4 }), stamp: fc.integer({ min: -3, max: 3 }) });
/** Pushes on the list of that number; or starts a list. */
const pushes = fc.array(fc.record({ on: fc.nat({ max: 9 }), node }), { maxLength: 20 });
const onto = (lists: readonly List[], on: number): List => lists[on] ?? EMPTY;

const SHARING =
  'lists that share their tails stay what they are; distinct versions are counted and picked newest first';
test(SHARING, () => {
  const property = fc.property(pushes, (steps) => {
    const nodes = new VersionNodes();
    const lists: List[] = [];
    for (const step of steps) lists.push(pushed(nodes, onto(lists, step.on), step.node));
    expect(nodes.size).toBe(1 + steps.length);
    for (const list of [EMPTY, ...lists]) agree(nodes, list);
  });
  holdProperty(FILE, SHARING, property, { numRuns: 40 });
});

const GOING_BACK = 'what is older than a rewind stays, and a clone knows nothing of it';
test(GOING_BACK, () => {
  const property = fc.property(pushes, pushes, pushes, (first, undone, more) => {
    const nodes = new VersionNodes();
    const lists: List[] = [];
    for (const step of first) lists.push(pushed(nodes, onto(lists, step.on), step.node));
    const mark = nodes.size;
    const kept = lists.length;
    for (const step of undone) lists.push(pushed(nodes, onto(lists, step.on), step.node));
    const twin = nodes.clone();
    const twins = [...lists];
    nodes.rewind(mark);
    expect(nodes.size).toBe(mark);
    lists.length = kept;
    for (const step of more) lists.push(pushed(nodes, onto(lists, step.on), step.node));
    for (const list of lists) agree(nodes, list);
    for (const list of twins) agree(twin, list);
    expect(twin.size).toBe(1 + twins.length);
  });
  holdProperty(FILE, GOING_BACK, property, { numRuns: 40 });
});

const REUSE = 'nodes that were released are used again before there are new ones, in a clone as well';
test(REUSE, () => {
  const property = fc.property(
    fc.array(fc.array(node, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 6 }),
    fc.nat(),
    (contents, which) => {
      const nodes = new VersionNodes();
      const build = (into: VersionNodes, all: readonly Node[]) =>
        all.reduce<List>((list, one) => pushed(into, list, one), EMPTY);
      const lists = contents.map((all) => build(nodes, all));
      const size = nodes.size;
      const [released] = lists.splice(which % lists.length, 1);
      nodes.release((released as List).head);
      const twin = nodes.clone();
      for (const one of [nodes, twin]) {
        const again = build(one, (released as List).nodes);
        expect(one.size).toBe(size);
        for (const list of [...lists, again]) agree(one, list);
        build(one, [{ version: 1, stamp: 1 }]);
        expect(one.size).toBe(size + 1);
      }
    },
  );
  holdProperty(FILE, REUSE, property, { numRuns: 40 });
});

test('there is room for any number of nodes', () => {
  const nodes = new VersionNodes();
  let list = EMPTY;
  const all: Node[] = [];
  for (let i = 0; i < 600; i++) {
    const head = nodes.push(i % 3, list.head, i);
    all.unshift({ version: i % 3, stamp: i });
    list = { head, nodes: all };
    expect(nodes.size).toBe(i + 2);
  }
  agree(nodes, list);
});

test('an array is made longer, its entries kept', () => {
  expect([...resized(Int32Array.of(4, -5), 4)]).toEqual([4, -5, 0, 0]);
});
