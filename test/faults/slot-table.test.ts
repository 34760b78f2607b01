import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SlotTable } from '../../src/faults/slot-table.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/faults/slot-table.test.ts';
const SLOTS = 5;

/** Top, list, flags, previous. */
type Entry = readonly [number, number, number, number];
const ENTRY: Entry = [0, 0, 0, 0];

type Op =
  | { readonly do: 'set'; readonly slot: number; readonly entry: Entry }
  | { readonly do: 'grow'; readonly slotCount: number }
  | { readonly do: 'excursion'; readonly ops: readonly Op[]; readonly ends: 'stay' | 'undo' | 'apply' };

const number = fc.integer({ min: -3, max: 1000 });
const entry = fc.tuple(number, number, fc.nat({ max: 31 }), number);
const { op } = fc.letrec<{ op: Op }>((tie) => ({
  op: fc.oneof(
    { maxDepth: 3, depthIdentifier: 'excursion' },
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant('set' as const), slot: fc.nat({ max: SLOTS - 1 }), entry }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('grow' as const), slotCount: fc.integer({ min: 1, max: 600 }) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant('excursion' as const),
        ops: fc.array(tie('op'), { maxLength: 6, depthIdentifier: 'excursion' }),
        ends: fc.constantFrom('stay' as const, 'undo', 'apply'),
      }),
    },
  ),
}));

function entryOf(table: SlotTable, slot: number): Entry {
  return [table.top[slot], table.list[slot], table.flags[slot], table.previous[slot]] as unknown as Entry;
}

function set(table: SlotTable, slot: number, [top, list, flags, previous]: Entry): void {
  table.touch(slot);
  table.top[slot] = top;
  table.list[slot] = list;
  table.flags[slot] = flags;
  table.previous[slot] = previous;
}

function agree(table: SlotTable, model: readonly Entry[]): void {
  expect(model.map((_, slot) => entryOf(table, slot))).toEqual(model);
}

/** @returns the slots that were set */
function run(table: SlotTable, model: Entry[], ops: readonly Op[]): Set<number> {
  const touched = new Set<number>();
  for (const one of ops) {
    switch (one.do) {
      case 'set':
        set(table, one.slot, one.entry);
        model[one.slot] = one.entry;
        touched.add(one.slot);
        break;
      case 'grow':
        table.grow(one.slotCount);
        for (const array of [table.top, table.list, table.flags, table.previous]) {
          expect(array.length).toBeGreaterThanOrEqual(one.slotCount);
        }
        break;
      case 'excursion': {
        const before = [...model];
        const checkpoint = table.checkpoint();
        const inside = run(table, model, one.ops);
        if (one.ends === 'stay') {
          for (const slot of inside) touched.add(slot);
          break;
        }
        const delta = table.capture(checkpoint);
        expect([...new Set(delta.slots)].sort()).toEqual([...inside].sort());
        const after = [...model];
        table.undo(checkpoint);
        for (const [slot, old] of before.entries()) model[slot] = old;
        agree(table, model);
        if (one.ends === 'undo') break;
        table.apply(delta);
        for (const slot of inside) {
          model[slot] = after[slot] as Entry;
          touched.add(slot);
        }
        break;
      }
    }
    agree(table, model);
  }
  return touched;
}

const ops = fc.array(op, { maxLength: 10 });

const TITLE =
  'an undo restores what was set since its checkpoint, and a captured delta sets it again, nested and grown';
test(TITLE, () => {
  const property = fc.property(ops, ops, (first, more) => {
    const [table, model] = [new SlotTable(SLOTS), new Array<Entry>(SLOTS).fill(ENTRY)];
    run(table, model, first);
    const [twin, twinModel] = [table.clone(), [...model]];
    agree(twin, twinModel);
    run(twin, twinModel, more);
    agree(table, model);
    run(table, model, more);
  });
  holdProperty(FILE, TITLE, property, { numRuns: 60 });
});

test('a slot is journaled once a checkpoint, and not at all without one', () => {
  const table = new SlotTable(SLOTS);
  for (let i = 0; i < 3; i++) set(table, 1, [i, i, i, i]);
  const outer = table.checkpoint();
  for (let i = 0; i < 3; i++) set(table, 1, [i, i, i, i]);
  expect([...table.capture(outer).slots]).toEqual([1]);
  const inner = table.checkpoint();
  for (let i = 0; i < 3; i++) set(table, 1, [i, i, i, i]);
  expect([...table.capture(inner).slots]).toEqual([1]);
  expect([...table.capture(outer).slots]).toEqual([1, 1]);
  table.undo(inner);
  set(table, 1, [9, 9, 9, 9]);
  set(table, 1, [8, 8, 8, 8]);
  expect([...table.capture(outer).slots]).toEqual([1, 1]);
  table.undo(outer);
  expect(entryOf(table, 1)).toEqual([2, 2, 2, 2]);
});

test('the journal has room for any number of changes', () => {
  const table = new SlotTable(700);
  for (let slot = 0; slot < 700; slot++) set(table, slot, [slot, 1, 2, 3]);
  const checkpoint = table.checkpoint();
  for (let slot = 0; slot < 700; slot++) set(table, slot, [slot + 1, 4, 5, 6]);
  expect([...table.capture(checkpoint).tops]).toEqual(Array.from({ length: 700 }, (_, slot) => slot + 1));
  table.undo(checkpoint);
  agree(
    table,
    Array.from({ length: 700 }, (_, slot) => [slot, 1, 2, 3]),
  );
});

test('arrays grow at least twofold, never shrink, and keep their entries', () => {
  const table = new SlotTable(1);
  set(table, 0, [1, 2, 3, 4]);
  const lengths = [1, 2, 256, 257, 300, 2000, 5].map((slotCount) => {
    table.grow(slotCount);
    expect(entryOf(table, 0)).toEqual([1, 2, 3, 4]);
    return [table.top, table.list, table.flags, table.previous].map(({ length }) => length);
  });
  expect(lengths).toEqual([1, 256, 256, 512, 512, 2000, 2000].map((length) => new Array(4).fill(length)));
});

test('a slot that was there from the start, or came with growth, is journaled', () => {
  const table = new SlotTable(0);
  table.grow(1);
  const checkpoint = table.checkpoint();
  table.grow(400);
  set(table, 399, [1, 2, 3, 4]);
  expect([...table.capture(checkpoint).slots]).toEqual([399]);
  table.undo(checkpoint);
  expect(entryOf(table, 399)).toEqual(ENTRY);
});

test('cleared, every slot is as in the beginning, but for what it held before', () => {
  const table = new SlotTable(SLOTS);
  for (let slot = 0; slot < SLOTS; slot++) set(table, slot, [7, 8, 9, 0]);
  table.clear();
  agree(table, new Array<Entry>(SLOTS).fill(ENTRY));
});
