import { describe, expect, it } from 'vitest';
import { type DiskProfile, profiles } from '../../src/faults/index.ts';
import { VersionLists } from '../../src/faults/version-lists.ts';
import { NO_NODE } from '../../src/faults/version-nodes.ts';
import { ZERO_VERSION } from '../../src/faults/version-pool.ts';

const BYTES = 8;
const whole: DiskProfile = { ...profiles['nvme-512'], sectorBytes: BYTES, physicalSectorBytes: BYTES };
const tearing: DiskProfile = { ...whole, tearStepBytes: 4 };

const filled = (value: number) => new Uint8Array(BYTES).fill(value);
/** Versions of these values, in `recycle` memory or not. */
function listsWith(profile: DiskProfile, recycle: boolean, values: readonly number[]) {
  const lists = new VersionLists(profile, recycle);
  return { lists, versions: values.map((value) => lists.add(filled(value), 0)) };
}

/** A list of these versions, each written after those before it, over zeros; the stamps are 1, 2, … */
function listOf(lists: VersionLists, versions: readonly number[], cutStamp = 0): number {
  let [list, top] = [NO_NODE, ZERO_VERSION];
  for (const [i, version] of versions.entries()) {
    list = lists.push(list, top, version, i + 1, cutStamp);
    top = version;
  }
  return list;
}

/** Bytes and stamps of the distinct versions, newest first. */
function contentOf(lists: VersionLists, list: number): [string, number][] {
  return Array.from({ length: lists.distinct(list) }, (_, index) => {
    const node = lists.pick(list, index);
    return [Buffer.from(lists.view(lists.versionAt(node))).toString('hex'), lists.stampAt(node)];
  });
}

describe.each([true, false])('lists of versions, memory used again: %s', (recycle) => {
  it('no list is one version', () => {
    expect(listsWith(whole, recycle, []).lists.distinct(NO_NODE)).toBe(1);
  });

  it('the newest untorn version up to a write, else the oldest; and the untorn writes after it', () => {
    const { lists, versions } = listsWith(whole, recycle, [1, 2, 3]);
    const list = listOf(lists, versions);
    const upTo = [-1, 0, 1, 2, 3, 9].map((limit) => {
      const node = lists.newestUpTo(list, limit);
      return [lists.stampAt(node), lists.stampsBefore(list, node)];
    });
    expect(upTo).toEqual([
      [0, [3, 2, 1]],
      [0, [3, 2, 1]],
      [1, [3, 2]],
      [2, [3]],
      [3, []],
      [3, []],
    ]);
  });

  it('a torn version is passed over, and its write counts once', () => {
    const { lists, versions } = listsWith(tearing, recycle, [1, 2]);
    const list = listOf(lists, versions);
    const hex = (first: number, second: number) => `0${first}`.repeat(4) + `0${second}`.repeat(4);
    // The second write tears over the first only: what was durable is no more on the medium once that reached it.
    expect(contentOf(lists, list)).toEqual([
      [hex(2, 2), 2],
      [hex(2, 0), -2],
      [hex(2, 1), -2],
      [hex(1, 1), 1],
      [hex(1, 0), -1],
      [hex(0, 0), 0],
    ]);
    const kept = [0, 1].map((limit) => lists.newestUpTo(list, limit));
    expect(kept.map((node) => lists.stampAt(node))).toEqual([0, 1]);
    expect(kept.map((node) => lists.stampsBefore(list, node))).toEqual([[2, 1], [2]]);
  });

  it('a write tears over what a cut left, whichever it was', () => {
    const { lists, versions } = listsWith(tearing, recycle, [1, 2, 3]);
    const [one, two, three] = versions as [number, number, number];
    const list = lists.push(NO_NODE, ZERO_VERSION, one, 1, 0);
    const open = lists.push(list, one, two, 2, 0);
    /** The values of the first and the second half of each tear. */
    const tears = (cutStamp: number) =>
      contentOf(lists, lists.push(open, two, three, 3, cutStamp))
        .filter(([, stamp]) => stamp === -3)
        .map(([hex]) => `${hex.at(1)}${hex.at(-1)}`)
        .sort();
    expect([0, 1, 2].map(tears)).toEqual([
      ['30', '32'],
      ['30', '31', '32'],
      ['30', '31', '32'],
    ]);
  });

  it('a version that is there already serves again', () => {
    const { lists, versions } = listsWith(whole, recycle, [1, 2]);
    const list = listOf(lists, versions);
    const [one, two] = versions as [number, number];
    const again = lists.add(filled(1), 0);
    expect(lists.twinOf(list, two, again)).toBe(one);
    const zero = lists.add(filled(0), 0);
    expect(lists.twinOf(NO_NODE, ZERO_VERSION, zero)).toBe(ZERO_VERSION);
    const other = lists.add(filled(9), 0);
    expect(lists.twinOf(list, two, other)).toBe(other);
    expect(lists.twinOf(NO_NODE, ZERO_VERSION, other)).toBe(other);
    const back = lists.push(list, two, one, 3, 0);
    expect(contentOf(lists, back).map(([, stamp]) => stamp)).toEqual([3, 2, 0]);
  });

  it('noise is that of the sector, and the same again', () => {
    const { lists } = listsWith(whole, recycle, []);
    const views = [
      [0, 100],
      [1, 101],
      [0, 100],
    ].map(([slot, sector]) => {
      const version = lists.noiseVersion(slot as number, sector as number);
      return Buffer.from(lists.view(version)).toString('hex');
    });
    expect(views[0]).toBe(views[2]);
    expect(views[0]).not.toBe(views[1]);
    expect(new Set(views).has('00'.repeat(BYTES))).toBe(false);
  });
});

describe('memory that is used again', () => {
  it('is that of the versions of a list that is dropped, once each, but for the one that remains', () => {
    for (const [order, kept, free] of [
      [[0, 1, 2], 2, [0, 1]],
      [[0, 1, 2], 0, [1, 2]],
      [[0, 1, 0, 1], 1, [0]],
      [[0, 1, 0, 1, 0], 1, [0]],
    ] as const) {
      const { lists, versions } = listsWith(whole, true, [1, 2, 3]);
      const at = (index: number) => versions[index] as number;
      lists.drop(listOf(lists, order.map(at)), at(kept));
      const { size, mark } = lists;
      listOf(lists, [at(kept)]);
      expect(lists.mark).toEqual(mark);
      const again = free.map(() => lists.add(filled(9), 0));
      expect([...again].sort()).toEqual(free.map(at).sort());
      expect(lists.size).toBe(size);
      lists.add(filled(9), 0);
      expect(lists.size).toBe(size + 1);
    }
  });

  it('is not that of noise, nor of zeros', () => {
    const { lists } = listsWith(whole, true, []);
    const noise = lists.noiseVersion(0, 7);
    const one = lists.add(filled(1), 0);
    const list = lists.push(lists.push(NO_NODE, noise, ZERO_VERSION, 1, 0), ZERO_VERSION, one, 2, 0);
    lists.drop(list, one);
    expect(lists.add(filled(2), 0)).toBe(one + 1);
    expect(lists.view(ZERO_VERSION)).toEqual(filled(0));
  });

  it('is that of a version that is not needed, and of all after a reset', () => {
    const { lists, versions } = listsWith(whole, true, [1, 2]);
    const noise = lists.noiseVersion(3, 7);
    const before = lists.view(noise).slice();
    lists.forget(versions[0] as number);
    expect(lists.add(filled(5), 0)).toBe(versions[0]);
    const twin = lists.clone();
    lists.reset();
    expect([lists.size, lists.mark]).toEqual([1, { versions: 1, nodes: 1 }]);
    lists.noiseVersion(3, 8);
    expect(lists.view(noise)).not.toEqual(before);
    expect([twin.size, twin.view(noise), twin.view(versions[0] as number)]).toEqual([3, before, filled(5)]);
  });
});

describe('memory that is not used again', () => {
  it('keeps what is dropped or forgotten', () => {
    const { lists, versions } = listsWith(whole, false, [1, 2]);
    const list = listOf(lists, versions);
    lists.drop(list, versions[1] as number);
    lists.forget(versions[0] as number);
    expect(contentOf(lists, list).length).toBe(3);
    expect(lists.add(filled(3), 0)).toBe(3);
    expect([1, 2, 3].map((value) => lists.add(filled(value), 0))).toEqual([...versions, 3]);
  });

  it('is taken back by a rewind, or keeps its versions if there are not too many of them', () => {
    const wide = { ...whole };
    for (const [count, keeps, isTakenBack] of [
      [3, false, true],
      [3, true, false],
      [2 ** 15, true, false],
      [2 ** 15 + 1, true, true],
    ] as const) {
      const { lists, versions } = listsWith(wide, false, [1, 2]);
      listOf(lists, versions);
      const { mark } = lists;
      expect(mark).toEqual({ versions: 3, nodes: 4 });
      for (let i = 0; i < count; i++) lists.add(new Uint8Array(Float64Array.of(i + 0.5).buffer), 0);
      listOf(lists, [3]);
      lists.rewind(mark, keeps);
      expect([lists.takenBack, lists.mark.nodes]).toEqual([isTakenBack ? 1 : 0, 4]);
      expect(lists.size).toBe(isTakenBack ? 3 : 3 + count);
    }
  });
});
