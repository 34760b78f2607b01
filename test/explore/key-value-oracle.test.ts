import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  History,
  type HistoryEvent,
  type KeyValueContent,
  type KeyValueOp,
  KeyValueOracle,
} from '../../src/explore/index.ts';

type Event = HistoryEvent<KeyValueOp, KeyValueContent>;
const bytes = (...values: number[]) => Uint8Array.from(values);
const put = (key: string, ...values: number[]): KeyValueOp => ({ kind: 'put', key, value: bytes(...values) });
const content = (entries: Record<string, number[]>): KeyValueContent =>
  new Map(Object.entries(entries).map(([key, values]) => [key, bytes(...values)]));
const historyOf = (...events: Event[]) =>
  events.reduce((history, event) => history.with(event), new History<KeyValueOp, KeyValueContent>());
const done = (op: KeyValueOp): Event[] => [
  { kind: 'begin', op },
  { kind: 'acknowledge', op },
];
const cut: Event = { kind: 'cut' };

function judge(found: KeyValueContent, ...events: Event[]): string {
  try {
    new KeyValueOracle().check(found, historyOf(...events));
  } catch (error) {
    return (error as Error).message;
  }
  return 'allowed';
}

describe('KeyValueOracle', () => {
  const a1 = put('a', 1, 1);
  const a2 = put('a', 1, 2);
  const both: KeyValueOp = { kind: 'transaction', ops: [put('a', 3), put('b', 3)] };

  it('what was acknowledged is there', () => {
    expect(judge(content({ a: [1, 1] }), ...done(a1), cut)).toBe('allowed');
    expect(judge(content({}), ...done(a1), cut)).toBe('key "a": expected 2 bytes 0101, got nothing');
    expect(judge(content({ a: [1, 9] }), ...done(a1), cut)).toMatch(/first differing byte 1$/);
    expect(judge(content({ a: [1, 1] }), ...done(a1), ...done({ kind: 'delete', key: 'a' }), cut)).toMatch(
      /expected nothing/,
    );
  });
  it('what was in flight is old or new, never between', () => {
    const events: Event[] = [...done(a1), { kind: 'begin', op: a2 }, cut];
    expect(judge(content({ a: [1, 1] }), ...events)).toBe('allowed');
    expect(judge(content({ a: [1, 2] }), ...events)).toBe('allowed');
    expect(judge(content({ a: [1] }), ...events)).toBe(
      'key "a": expected 2 bytes 0101 or 2 bytes 0102 (old or new), got 1 bytes 01; first differing byte 1',
    );
  });
  it('what failed left the old bytes', () => {
    expect(
      judge(content({ a: [1, 2] }), ...done(a1), { kind: 'begin', op: a2 }, { kind: 'fail', op: a2 }, cut),
    ).toMatch(/got 2 bytes 0102/);
  });
  it('a transaction is all or nothing', () => {
    const events: Event[] = [...done(a1), { kind: 'begin', op: both }, cut];
    expect(judge(content({ a: [3], b: [3] }), ...events)).toBe('allowed');
    expect(judge(content({ a: [1, 1] }), ...events)).toBe('allowed');
    expect(judge(content({ a: [3] }), ...events)).toMatch(/only a part .*"a", "b"/);
  });
  it('no other key appears', () => {
    expect(judge(content({ z: [1] }), cut)).toMatch(/key "z": expected nothing/);
  });
  it('what was reported gone does not come back', () => {
    const gone: Event = { kind: 'observe', observation: content({}) };
    const events: Event[] = [{ kind: 'begin', op: a1 }, cut, gone, cut];
    expect(judge(content({}), ...events)).toBe('allowed');
    expect(judge(content({ a: [1, 1] }), ...events)).toMatch(/expected nothing/);
    expect(judge(content({ a: [1, 1] }), { kind: 'begin', op: a1 }, cut, cut)).toBe('allowed');
  });
  it('in order: a later operation in flight survives only with all before it', () => {
    const events: Event[] = [put('a', 1), put('b', 2), put('c', 3)].map((op) => ({ kind: 'begin', op }));
    const survives = (found: KeyValueContent, inOrder: boolean) => {
      const allowed = new KeyValueOracle(new Map(), { inOrder }).allowed(historyOf(...events, cut));
      return allowed.some((content) => isDeepStrictEqual(content, found));
    };
    for (const found of [{}, { a: [1] }, { a: [1], b: [2] }, { a: [1], b: [2], c: [3] }]) {
      expect(survives(content(found), true)).toBe(true);
    }
    for (const found of [{ b: [2] }, { a: [1], c: [3] }, { b: [2], c: [3] }]) {
      expect(survives(content(found), true)).toBe(false);
      expect(survives(content(found), false)).toBe(true);
    }
  });
  it('in order: many operations in flight are no more than as many contents', () => {
    const events: Event[] = Array.from({ length: 40 }, (_, i) => ({ kind: 'begin', op: put(`k${i}`, i) }));
    const history = historyOf(...events, cut, { kind: 'observe', observation: content({ k0: [0] }) });
    expect(new KeyValueOracle(new Map(), { inOrder: true }).allowed(history)).toEqual([content({ k0: [0] })]);
    expect(() => new KeyValueOracle().allowed(history)).toThrow(/fewer operations in flight/);
  });
  it('remembers what it made of a history, and is not confused by another', () => {
    const op = fc.record({
      kind: fc.constant('put' as const),
      key: fc.constantFrom('a', 'b'),
      value: fc.uint8Array({ maxLength: 2 }),
    });
    const step = fc.oneof(
      op.map((o) => done(o)),
      op.map((o): Event[] => [{ kind: 'begin', op: o }]),
      fc.constant([cut]),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 6 }), fc.array(step, { maxLength: 3 }), (head, tail) => {
        const oracle = new KeyValueOracle();
        const shared = historyOf(...head.flat(), cut);
        oracle.allowed(shared);
        const longer = tail.flat().reduce((history, event) => history.with(event), shared);
        expect(oracle.allowed(longer)).toEqual(new KeyValueOracle().allowed(longer));
        expect(oracle.allowed(shared)).toEqual(new KeyValueOracle().allowed(shared));
      }),
    );
  });
});
