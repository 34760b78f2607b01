import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { equalBytes } from '../../src/core/index.ts';
import { DiskState } from '../../src/faults/disk-state.ts';
import { type DiskProfile, type ProfileName, profiles, type Resolution } from '../../src/faults/index.ts';
import { holdProperty, isCaught } from '../property/replay.ts';
import { bytesOf, type Content, PARTS, PlainDisk } from './disk-model.ts';

const FILE = 'test/faults/disk-state.test.ts';

/** One thing that is done to a disk. `at` is a place in the list of places of the disk. */
type Op =
  | { readonly do: 'write' | 'replay'; readonly at: number; readonly contents: readonly Content[] }
  | { readonly do: 'zeroes' | 'discard' | 'settle' | 'read' | 'touch'; readonly at: number; readonly count: number }
  | { readonly do: 'flush' | 'abandon' | 'cut' }
  | { readonly do: 'resolveAll'; readonly back: number }
  /** All of it is undone: for good; with its memory; or it is done again from what was captured. */
  | { readonly do: 'excursion'; readonly ops: readonly Op[]; readonly ends: 'undo' | 'rewind' | 'keep' | 'apply' };

interface Kind {
  readonly profile: DiskProfile;
  readonly sectorCount: number;
  /** Sectors that requests start at. */
  readonly places: readonly number[];
  readonly recycle: boolean;
}

const PETA = 2 ** 41;

function kindOf(name: ProfileName, isHuge: boolean, recycle: boolean): Kind {
  const profile = profiles[name];
  const sectorCount = isHuge ? PETA : 20;
  const places = isHuge ? [0, 3, 8, 1000, 2 ** 20, PETA - 24] : [0, 1, 2, 5, 8, 9, 14];
  return { profile, sectorCount, places, recycle };
}

/** Few values, so that sectors go back to what they held; some differ within a sector, so that tears show. */
const content: fc.Arbitrary<Content> = fc
  .tuple(fc.nat({ max: 2 }), fc.nat({ max: 2 }), fc.integer({ min: 0, max: PARTS }))
  .map(([a, b, edge]) => Array.from({ length: PARTS }, (_, part) => (part < edge ? a : b)));

const at = fc.nat({ max: 6 });
const count = fc.integer({ min: 1, max: 6 });
const simple: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('write', 'replay'),
      at,
      contents: fc.array(content, { minLength: 1, maxLength: 3 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom('zeroes', 'discard', 'settle', 'read', 'touch'), at, count }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('flush', 'cut', 'cut', 'abandon') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('resolveAll' as const), back: fc.nat({ max: 4 }) }) },
) as fc.Arbitrary<Op>;

const { op } = fc.letrec<{ op: Op }>((tie) => ({
  op: fc.oneof(
    { maxDepth: 3, depthIdentifier: 'excursion' },
    { weight: 8, arbitrary: simple },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('excursion' as const),
        ops: fc.array(tie('op'), { maxLength: 8, depthIdentifier: 'excursion' }),
        ends: fc.constantFrom('undo' as const, 'rewind', 'keep', 'apply'),
      }),
    },
  ),
}));

/** A disk and its model, which are asked the same questions and given the same answers. */
class Pair {
  readonly state: DiskState;
  readonly model: PlainDisk;
  readonly #kind: Kind;
  readonly #answers: readonly number[];
  #asked: number[] = [];
  #answered = 0;
  #reported: Resolution[] = [];

  constructor(kind: Kind, answers: readonly number[], state: DiskState, model: PlainDisk) {
    this.#kind = kind;
    this.#answers = answers;
    this.state = state;
    this.model = model;
    this.state.onResolve = (resolution) => this.#reported.push(resolution);
    this.state.choices = {
      choose: (options) => {
        if (options <= 1) return 0;
        this.#asked.push(options);
        return this.#answer(this.#asked.length - 1, options);
      },
    };
    this.model.ask = (options) => {
      expect(this.#asked[this.#answered], 'number of possibilities').toBe(options);
      return this.#answer(this.#answered++, options);
    };
  }

  #answer(at: number, options: number): number {
    return (this.#answers[at % this.#answers.length] as number) % options;
  }

  /** To be called after the disk and its model have done the same. */
  agree(): void {
    expect(this.#answered, 'questions').toBe(this.#asked.length);
    expect(this.#reported).toEqual(this.model.resolutions);
    this.#reported = [];
    this.model.resolutions.length = 0;
    const { state, model } = this;
    expect(state.stamp).toBe(model.stamp);
    expect(state.dirtyCount).toBe(model.dirtyCount);
    expect(state.pendingSectors().sort((a, b) => a - b)).toEqual(model.pending);
    for (const sector of this.#sectors()) this.#agreeOn(sector);
  }

  #agreeOn(sector: number): void {
    const { state, model } = this;
    const { profile, recycle } = this.#kind;
    const hold = (isTrue: boolean, what: string): void => {
      if (!isTrue) throw new Error(`sector ${sector}: ${what}`);
    };
    // `expect` for each of them takes a second a run.
    const expected = model.versions(sector).map((one) => bytesOf(one, profile.sectorBytes));
    hold(state.versionCount(sector) === expected.length, `expected ${expected.length} versions`);
    for (const [index, bytes] of expected.entries()) {
      hold(equalBytes(state.versionBytes(sector, index), bytes), `version ${index} is another`);
    }
    const previous = model.previous(sector);
    const wasThere = previous === undefined || recycle ? undefined : bytesOf(previous, profile.sectorBytes);
    const before = state.previousBytes(sector);
    const isSame = before === undefined || wasThere === undefined ? before === wasThere : equalBytes(before, wasThere);
    hold(isSame, 'what it held before its last write is another');
    if (recycle) return;
    const top = model.top(sector);
    const isZero = 'every' in top && top.every((value) => value === 0);
    hold(state.isBlank(sector) === (isZero && !model.hasList(sector)), 'blank or not');
    const [one, other] = [state.topVersion(sector), state.topVersion(0)];
    hold((one === other) === (JSON.stringify(top) === JSON.stringify(model.top(0))), 'equal bytes, equal numbers');
    hold(state.hasVersions(sector, Int32Array.of(7, one), 1, 1), 'it has its version');
    hold(!state.hasVersions(sector, Int32Array.of(one + 1), 0, 1), 'it has no other version');
  }

  /** After a cut: in how many ways each group can turn out. */
  agreeOnImages(groups: ArrayLike<number>, sectors: readonly number[]): void {
    const { state, model } = this;
    const expected = [...new Set(sectors.map((sector) => model.groupOf(sector)))];
    const images = expected.map((first) => model.imagesOfGroup(first));
    // A group is known by its slot, which says nothing about its place on a huge disk: all of them together do.
    const got = Array.from(groups, (slot) => BigInt(state.imagesOfGroup(slot)));
    const sorted = (list: readonly bigint[]) => [...list].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    expect(sorted(got)).toEqual(sorted(images));
    expect(state.groupsOf(sectors)).toEqual(new Set(expected));
  }

  run(ops: readonly Op[]): void {
    for (const one of ops) {
      this.#do(one);
      this.agree();
    }
  }

  /** Reads everything: whatever is open is decided. */
  readAll(): void {
    for (const sector of this.#sectors()) this.#read(sector, 1);
    this.agree();
  }

  #do(one: Op): void {
    const { state, model } = this;
    const { profile, places, recycle, sectorCount } = this.#kind;
    const { sectorBytes } = profile;
    const sector = 'at' in one ? (places[one.at % places.length] as number) : 0;
    switch (one.do) {
      case 'write':
      case 'replay': {
        const bytes = Buffer.concat(one.contents.map((each) => bytesOf(each, sectorBytes)));
        if (one.do === 'write' || recycle) state.write(sector, bytes);
        else {
          const versions = state.intern(bytes);
          expect(Buffer.concat(versions.map((version) => state.internedBytes(version)))).toEqual(bytes);
          state.replayWrite(sector, versions);
        }
        model.write(sector, one.contents);
        break;
      }
      case 'zeroes':
      case 'discard': {
        // To the end of a huge disk, now and then.
        const length = one.count === 6 ? sectorCount - sector : one.count;
        if (one.do === 'zeroes') state.writeZeroes(sector, length);
        else state.discard(sector, length);
        if (one.do === 'zeroes') model.writeZeroes(sector, length);
        else model.discard(sector, length);
        break;
      }
      case 'settle':
        state.settle(sector, one.count);
        model.settle(sector, one.count);
        break;
      case 'read':
        this.#read(sector, one.count);
        break;
      case 'touch':
        state.touch(sector, one.count);
        for (let i = 0; i < one.count; i++) model.read(sector + i);
        break;
      case 'flush':
        state.settleAll();
        model.flush();
        break;
      case 'abandon':
        state.abandon();
        model.abandon();
        break;
      case 'cut': {
        const sectors = state.pendingSectors();
        const groups = state.pendingGroups();
        state.cut();
        model.cut();
        this.agreeOnImages(groups, sectors);
        break;
      }
      case 'resolveAll':
        state.resolveAll(state.stamp - one.back);
        model.resolveAll(model.stamp - one.back);
        break;
      case 'excursion':
        this.#excursion(one);
        break;
    }
  }

  #read(sector: number, sectorCount: number): void {
    const { sectorBytes } = this.#kind.profile;
    const target = this.state.scratch(sectorCount * sectorBytes);
    this.state.read(sector, target);
    for (let i = 0; i < sectorCount; i++) {
      const expected = bytesOf(this.model.read(sector + i), sectorBytes);
      expect(Buffer.from(target.subarray(i * sectorBytes, (i + 1) * sectorBytes)).equals(expected), 'read').toBe(true);
    }
  }

  #excursion({ ops, ends }: Extract<Op, { do: 'excursion' }>): void {
    const { state, model } = this;
    // What recycles its memory can't go back.
    if (this.#kind.recycle) {
      this.run(ops);
      return;
    }
    const before = model.copy();
    const { memoryVersions, versionLife } = state;
    const checkpoint = state.checkpoint();
    this.run(ops);
    const delta = state.capture(checkpoint);
    const after = model.copy();
    state.undo(checkpoint);
    model.goBackTo(before);
    this.agree();
    if (ends === 'rewind' || ends === 'keep') state.rewind(checkpoint, ends === 'keep');
    if (ends === 'rewind') {
      expect(state.memoryVersions).toBe(memoryVersions);
      expect(state.versionLife).toBeGreaterThan(versionLife);
    }
    if (ends === 'keep') expect(state.versionLife >= versionLife).toBe(true);
    if (ends !== 'apply') return;
    state.apply(delta);
    model.goBackTo(after);
  }

  /** Both go on apart from here on: what one does, the other does not see. */
  agreeApart(ops: readonly Op[]): void {
    const other = new Pair(this.#kind, this.#answers, this.state.clone(), this.model.copy());
    other.agree();
    other.run(ops);
    other.readAll();
    this.agree();
  }

  #sectors(): number[] {
    const { places, sectorCount } = this.#kind;
    const near = places.flatMap((place) => Array.from({ length: 9 }, (_, i) => place + i));
    return [...new Set(near)].filter((sector) => sector < sectorCount);
  }
}

const answers = fc.array(fc.nat({ max: 1000 }), { minLength: 1, maxLength: 12 });

/** Runs a disk beside a model that `model` makes. */
function agreement(kind: Kind, model: (kind: Kind) => PlainDisk): fc.IProperty<[Op[], Op[], number[]]> {
  const ops = fc.array(op, { maxLength: 24, size: 'max' });
  return fc.property(ops, fc.array(op, { maxLength: 6 }), answers, (first, more, given) => {
    const pair = new Pair(kind, given, new DiskState(kind.profile, kind.sectorCount, kind.recycle), model(kind));
    pair.run(first);
    pair.agreeApart(more);
    pair.readAll();
    if (!kind.recycle) return;
    pair.state.reset();
    const fresh = new Pair(kind, given, pair.state, model(kind));
    fresh.agree();
    fresh.run(more);
    fresh.readAll();
  });
}

const plain = ({ profile, sectorCount }: Kind): PlainDisk => new PlainDisk(profile, sectorCount, sectorCount < 2 ** 20);

describe('the disk state is the disk model, said plainly', () => {
  const kinds = (Object.keys(profiles) as ProfileName[]).flatMap((name) =>
    [false, true].flatMap((isHuge) => [false, true].map((recycle) => [name, isHuge, recycle] as const)),
  );

  test.each(kinds)('%s, huge: %s, memory used again: %s', (name, isHuge, recycle) => {
    const title = `${name}, huge: ${isHuge}, memory used again: ${recycle}`;
    holdProperty(FILE, title, agreement(kindOf(name, isHuge, recycle), plain), { numRuns: 25 });
  });

  /** Each takes one rule of the model away. */
  const broken: Readonly<Record<string, (model: PlainDisk) => void>> = {
    'a flush that settles nothing': (model) => {
      model.flush = () => {};
    },
    'a settled range that is not': (model) => {
      model.settle = () => {};
    },
    'a flush that failed and gives nothing up': (model) => {
      model.abandon = () => {};
    },
    'a discard that is a write': (model) => {
      model.discard = (sector, sectorCount) => model.writeZeroes(sector, sectorCount);
    },
    'a cut that leaves nothing open': (model) => {
      model.cut = () => model.flush();
    },
  };

  test.each(Object.entries(broken))('the property is not blind: %s', (_name, takeAway) => {
    const model = (kind: Kind): PlainDisk => {
      const made = plain(kind);
      takeAway(made);
      return made;
    };
    expect(isCaught(agreement(kindOf('nvme-512', false, false), model), { numRuns: 50, seed: 1 })).toBe(true);
  });
});

test('a state that is reset has forgotten what is wrong with the medium', () => {
  const state = new DiskState(profiles['nvme-512'], 8, true);
  const { media } = state;
  state.media = { fired: 1, active: [], isHung: true };
  state.reset();
  expect(state.media).toEqual(media);
});
