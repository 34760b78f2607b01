import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { type Choices, codeOf } from '../../src/core/index.ts';
import { FAULT_LABEL } from '../../src/faults/choices.ts';
import {
  DiskState,
  explorableFaultKinds,
  type MediaFault,
  type MediaFaultKind,
  type MediaOptions,
  MediaOverlay,
  mediaFaultKinds,
  planFlush,
  planWrite,
  profiles,
  RecordedChoices,
  resolveMedia,
} from '../../src/faults/index.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/faults/media-overlay.test.ts';
const BYTES = 512;

const filled = (value: number, sectors = 1) => new Uint8Array(BYTES * sectors).fill(value);

/** Sectors with one content after another, which all became durable. */
function stateWith(sectorCount: number, contents: readonly (readonly number[])[], recycles = false): DiskState {
  const state = new DiskState(profiles['nvme-512'], sectorCount, recycles);
  for (const [sector, values] of contents.entries()) {
    for (const value of values) {
      state.write(sector, filled(value));
      state.settleAll();
    }
  }
  return state;
}

/** One use of a disk under these faults, answered from a list, and 0 from there on. */
class Use {
  readonly fired: MediaFault[] = [];
  /** Of each question the number of answers. */
  readonly asked: number[] = [];
  readonly overlay: MediaOverlay;
  readonly state: DiskState;

  constructor(state: DiskState, options: MediaOptions, answers: readonly number[] = []) {
    this.state = state;
    const choices: Choices = {
      choose: (count, label) => {
        expect(label).toBe(FAULT_LABEL);
        return answers[this.asked.push(count) - 1] ?? 0;
      },
    };
    this.overlay = new MediaOverlay(state, resolveMedia(options), (fault) => this.fired.push(fault), { choices });
  }

  read(sector: number, sectorCount: number): Uint8Array {
    const target = filled(0xee, sectorCount);
    this.overlay.read(sector, target);
    return target;
  }
}

interface World {
  readonly sectorCount: number;
  readonly sector: number;
  readonly count: number;
  readonly contents: readonly (readonly number[])[];
  readonly options: Required<MediaOptions>;
}

const world: fc.Arbitrary<World> = fc
  .record({
    sectorCount: fc.integer({ min: 4, max: 17 }),
    first: fc.nat(),
    count: fc.integer({ min: 1, max: 4 }),
    contents: fc.array(fc.array(fc.nat({ max: 2 }), { maxLength: 3 }), { minLength: 17, maxLength: 17 }),
    kinds: fc.uniqueArray(fc.constantFrom(...mediaFaultKinds), { minLength: 1 }),
    zone: fc.record({ firstSector: fc.nat({ max: 5 }), sectorCount: fc.integer({ min: 1, max: 17 }) }),
    rotStepBytes: fc.constantFrom(64, 100, 256, 512),
  })
  .map(({ sectorCount, first, count, contents, kinds, zone, rotStepBytes }) => ({
    sectorCount,
    sector: first % (sectorCount - count + 1),
    count,
    contents: contents.slice(0, sectorCount),
    options: resolveMedia({ kinds, zone, rotStepBytes }),
  }));

/** The questions that are asked if nothing goes wrong: of each, what may. */
function questionsOf({ sectorCount, contents, options }: World, act: (use: Use) => void): MediaFault[][] {
  const sound = new Use(stateWith(sectorCount, contents), options);
  act(sound);
  expect(sound.fired).toEqual([]);
  return sound.asked.map((answers, question) =>
    Array.from({ length: answers - 1 }, (_, i) => {
      const use = new Use(stateWith(sectorCount, contents), options, [...new Array(question).fill(0), i + 1]);
      try {
        act(use);
      } catch {
        // What fails is no matter here.
      }
      expect(use.fired.length).toBe(1);
      return use.fired[0] as MediaFault;
    }),
  );
}

const inZone = ({ options: { zone } }: World, sector: number) =>
  sector >= zone.firstSector && sector < zone.firstSector + zone.sectorCount;

/** Addresses with one bit wrong. */
function misdirections({ sectorCount, count }: World, sector: number): number[] {
  return [1, 2, 4, 8, 16]
    .filter((bit) => bit < sectorCount)
    .flatMap((bit) => {
      const detail = sector ^ bit;
      return detail + count <= sectorCount ? [detail] : [];
    });
}

const top = (given: World, sector: number) => given.contents[sector]?.at(-1) ?? 0;
const isBlank = (given: World, sector: number) => top(given, sector) === 0;

function expectedOfRead(given: World): MediaFault[][] {
  const { sector, count, options } = given;
  const allows = (kind: MediaFaultKind, at: number) => options.kinds.includes(kind) && inZone(given, at);
  const sectors = Array.from({ length: count }, (_, i) => sector + i);
  const request: MediaFault[] = [];
  if (!sectors.every((each) => isBlank(given, each))) {
    const whole = { sector, sectorCount: count };
    for (const kind of ['read-error', 'hung-request', 'latency-spike'] as const) {
      if (allows(kind, sector)) request.push({ kind, ...whole, detail: 0 });
    }
    for (const detail of misdirections(given, sector)) {
      if (allows('misdirected-read', sector)) request.push({ kind: 'misdirected-read', ...whole, detail });
    }
  }
  const ofSectors = sectors.map((each) => {
    if (isBlank(given, each)) return [];
    const found: MediaFault[] = [];
    const one = { sector: each, sectorCount: 1 };
    if (allows('latent-error', each)) found.push({ kind: 'latent-error', ...one, detail: 0 });
    if (allows('stale-read', each)) found.push({ kind: 'stale-read', ...one, detail: 0 });
    for (let step = 0; step * options.rotStepBytes < BYTES && allows('bit-rot', each); step++) {
      const detail = step * options.rotStepBytes * 8 + ((step + each) % 8);
      found.push({ kind: 'bit-rot', ...one, detail });
    }
    return found;
  });
  return [request, ...ofSectors].filter((faults) => faults.length > 0);
}

function expectedOfWrite(given: World): MediaFault[][] {
  const { sector, count, options } = given;
  if (!inZone(given, sector)) return [];
  const details: Partial<Record<MediaFaultKind, number[]>> = {
    'lost-write': [0],
    'hung-request': [0],
    'latency-spike': [0],
    'write-error': count > 1 ? [0, 1, count] : [0, count],
    'misdirected-write': misdirections(given, sector),
  };
  const found = Object.entries(details).flatMap(([kind, all]) =>
    all
      .filter(() => options.kinds.includes(kind as MediaFaultKind))
      .map((detail) => ({ kind: kind as MediaFaultKind, sector, sectorCount: count, detail })),
  );
  return found.length === 0 ? [] : [found];
}

function expectedOfFlush({ options }: World): MediaFault[][] {
  const found = (['lying-flush', 'flush-error', 'hung-request', 'latency-spike'] as const)
    .filter((kind) => options.kinds.includes(kind))
    .map((kind) => ({ kind, sector: 0, sectorCount: 0, detail: 0 }));
  return found.length === 0 ? [] : [found];
}

describe('what may go wrong', () => {
  const READ =
    'with a read: the request, unless all is blank, then each sector that is not, where they are in the zone';
  it(READ, () => {
    const property = fc.property(world, (given) => {
      const { sector, count } = given;
      const questions = questionsOf(given, (use) => {
        const target = use.read(sector, count);
        if (use.fired.length > 0) return;
        expect(Array.from({ length: count }, (_, i) => target[i * BYTES])).toEqual(
          Array.from({ length: count }, (_, i) => top(given, sector + i)),
        );
        // What was asked about is not asked about again.
        const asked = use.asked.length;
        use.read(sector, count);
        expect(use.asked.length).toBe(asked);
      });
      expect(questions).toEqual(expectedOfRead(given));
    });
    holdProperty(FILE, READ, property, { numRuns: 40 });
  });

  const WRITE = 'with a write that starts in the zone: it is lost, in part or all, or goes elsewhere';
  it(WRITE, () => {
    const property = fc.property(world, (given) => {
      const questions = questionsOf(given, ({ overlay }) => overlay.write(given.sector, given.count));
      expect(questions).toEqual(expectedOfWrite(given));
    });
    holdProperty(FILE, WRITE, property, { numRuns: 40 });
  });

  const FLUSH = 'with a flush, wherever the zone is';
  it(FLUSH, () => {
    const property = fc.property(world, (given) => {
      expect(questionsOf(given, ({ overlay }) => overlay.flush())).toEqual(expectedOfFlush(given));
    });
    holdProperty(FILE, FLUSH, property, { numRuns: 30 });
  });

  it('with sectors that a read from elsewhere has not asked about, and with that request', () => {
    const use = new Use(stateWith(16, [[1], [1], [1]]), { kinds: ['read-error', 'latent-error'] });
    use.read(0, 2);
    expect(use.asked).toEqual([2, 2, 2]);
    use.read(1, 2);
    expect(use.asked).toEqual([2, 2, 2, 2, 2]);
    use.read(1, 1);
    expect(use.asked.length).toBe(5);
  });

  it('as long as there are fewer faults than may fire', () => {
    const use = new Use(stateWith(16, []), { kinds: ['lost-write'], maxFaults: 3 }, [1, 1, 0, 1, 1]);
    for (let i = 0; i < 6; i++) use.overlay.write(4, 1);
    expect(use.fired.length).toBe(3);
    expect(use.asked).toEqual([2, 2, 2, 2]);
    expect(use.state.media.fired).toBe(3);
  });
});

describe('what a fault does', () => {
  const all: MediaOptions = { kinds: mediaFaultKinds, rotStepBytes: 256 };

  it('to a write: where it goes, how much of it, and whether it fails', () => {
    const plans = Array.from({ length: 10 }, (_, answer) => {
      const use = new Use(stateWith(16, []), all, [answer]);
      const { error, ...plan } = use.overlay.write(4, 3);
      const [fault] = use.fired;
      return [fault?.kind, plan.sector, plan.sectorCount, error === undefined ? undefined : codeOf(error)];
    });
    expect(plans).toEqual([
      [undefined, 4, 3, undefined],
      ['lost-write', 4, 0, undefined],
      ['hung-request', 4, 3, 'EIO'],
      ['latency-spike', 4, 3, undefined],
      ['write-error', 4, 0, 'EIO'],
      ['write-error', 4, 1, 'EIO'],
      ['write-error', 4, 3, 'EIO'],
      ['misdirected-write', 5, 3, undefined],
      ['misdirected-write', 6, 3, undefined],
      ['misdirected-write', 0, 3, undefined],
    ]);
  });

  it('to a flush', () => {
    const plans = [0, 1, 2, 3, 4].map((answer) => {
      const plan = new Use(stateWith(16, []), all, [answer]).overlay.flush();
      return [plan.outcome, 'error' in plan ? codeOf(plan.error) : undefined];
    });
    expect(plans).toEqual([
      ['done', undefined],
      ['lie', undefined],
      ['abandon', 'EIO'],
      ['hang', 'EIO'],
      ['done', undefined],
    ]);
  });

  it('to a read: EIO once; EIO for everything; nothing; another place', () => {
    const outcomes = [0, 1, 2, 3, 4, 5].map((answer) => {
      const use = new Use(stateWith(16, [[1], [2], [3], [4]]), all, [answer]);
      return [1, 2].map(() => outcomeOf(() => [...new Set(use.read(0, 2))].join()));
    });
    expect(outcomes).toEqual([
      ['1,2', '1,2'],
      ['EIO', '1,2'],
      ['EIO', 'EIO'],
      ['1,2', '1,2'],
      // One sector further on.
      ['2,3', '2,3'],
      ['3,4', '3,4'],
    ]);
  });

  it('to everything after a request that hangs', () => {
    const use = new Use(stateWith(16, [[1]]), { kinds: ['hung-request'], maxFaults: 9 }, [1]);
    expect(use.overlay.write(3, 1).error).toBeDefined();
    const operations = [() => use.read(5, 1), () => use.overlay.write(3, 1), () => use.overlay.flush()];
    expect(operations.map(outcomeOf)).toEqual(['EIO', 'EIO', 'EIO']);
    expect(use.asked).toEqual([2]);
    expect(use.state.media).toMatchObject({ isHung: true, fired: 1, active: [] });
  });

  it('of a read that goes elsewhere: to that request alone, by its place and length', () => {
    const use = new Use(stateWith(16, [[1], [2], [3], [4]]), { kinds: ['misdirected-read'] }, [2]);
    expect([...new Set(use.read(0, 2))]).toEqual([3, 4]);
    expect([...new Set(use.read(0, 1))]).toEqual([1]);
    expect([...new Set(use.read(0, 3))]).toEqual([1, 2, 3]);
    expect([...new Set(use.read(1, 2))]).toEqual([2, 3]);
    expect([...new Set(use.read(0, 2))]).toEqual([3, 4]);
  });

  it('of a read that goes elsewhere: its sectors are not asked about', () => {
    const kinds = ['misdirected-read', 'bit-rot', 'latent-error'] as const;
    const use = new Use(stateWith(16, [[1], [2], [3], [4]]), { kinds, maxFaults: 3 }, [1, 1, 1, 1]);
    expect([...new Set(use.read(0, 1))]).toEqual([2]);
    expect(use.asked.length).toBe(1);
    expect(outcomeOf(() => use.read(0, 2))).toBe('EIO');
    expect(use.asked.length).toBe(2);
  });

  it('of a sector: to it alone, wherever in the request it is', () => {
    const harmed = (kind: MediaFaultKind, answers: readonly number[]) => {
      const use = new Use(
        stateWith(16, [
          [5, 1],
          [6, 2],
          [7, 3],
        ]),
        { kinds: [kind], rotStepBytes: 256 },
        answers,
      );
      return () => use.read(0, 3);
    };
    const stale = harmed('stale-read', [0, 1]);
    for (let i = 0; i < 2; i++)
      expect(Buffer.compare(stale(), Buffer.concat([1, 6, 3].map((one) => filled(one))))).toBe(0);
    const rotten = harmed('bit-rot', [0, 0, 2]);
    for (let i = 0; i < 2; i++) {
      const expected = Buffer.concat([1, 2, 3].map((one) => filled(one)));
      // The second place; its bit is the third after that of the first sector's first.
      expected[2 * BYTES + 256] = 3 ^ (1 << 3);
      expect(Buffer.compare(rotten(), expected)).toBe(0);
    }
    const lost = harmed('latent-error', [0, 1]);
    for (let i = 0; i < 2; i++) expect(outcomeOf(lost)).toBe('EIO');
  });

  it('of a sector: to the version that it hit, which a cut may bring back', () => {
    const use = new Use(stateWith(16, [[1]]), { kinds: ['bit-rot'], rotStepBytes: 512 }, [1]);
    const { state } = use;
    expect(use.read(0, 1)[0]).toBe(1 ^ 1);
    state.write(0, filled(2));
    expect(use.read(0, 1)).toEqual(filled(2));
    state.cut();
    state.resolveAll(-1);
    expect(use.read(0, 1)[0]).toBe(1 ^ 1);
    state.write(0, filled(1));
    expect(use.read(0, 1)).toEqual(filled(1));
    expect(state.media.active).toEqual([]);
  });

  it('is kept in the state only if it stays at work', () => {
    const lasting = mediaFaultKinds.filter((kind) => {
      const use = new Use(stateWith(16, [[5, 1], [2]]), { kinds: [kind] }, [1]);
      for (const operation of [() => use.read(0, 1), () => use.overlay.write(0, 1), () => use.overlay.flush()]) {
        outcomeOf(operation);
      }
      expect(use.fired.map((fault) => fault.kind)).toEqual([kind]);
      expect(use.state.media.fired).toBe(1);
      expect(use.state.media.isHung).toBe(kind === 'hung-request');
      const { active } = use.state.media;
      if (active.length > 0) expect(active).toEqual([{ fault: use.fired[0], version: use.state.topVersion(0) }]);
      return active.length > 0;
    });
    expect(lasting).toEqual(['bit-rot', 'latent-error', 'stale-read', 'misdirected-read']);
  });

  it('several at work: each has its effect', () => {
    const use = new Use(stateWith(16, [[1], [2]]), { kinds: ['bit-rot'], maxFaults: 2, rotStepBytes: 512 }, [1, 1]);
    const target = use.read(0, 2);
    expect([target[0], target[BYTES]]).toEqual([1 ^ 1, 2 ^ 2]);
    expect(use.state.media.active.length).toBe(2);
  });
});

describe('where it takes things from', () => {
  it('the choices of the state, if it has no others', () => {
    const state = stateWith(16, []);
    state.choices = new RecordedChoices([1]);
    const overlay = new MediaOverlay(state, resolveMedia({ kinds: ['lost-write'] }), () => {});
    expect(overlay.write(0, 1).sectorCount).toBe(0);
  });

  it('what a sector held before: from what it was given, else from the state, where that remembers', () => {
    const options = resolveMedia({ kinds: ['stale-read'] });
    const readWith = (recycles: boolean, before?: (sector: number) => Uint8Array | undefined) => {
      const state = stateWith(16, [[5, 1]], recycles);
      const choices = new RecordedChoices([1]);
      const sources = before === undefined ? { choices } : { choices, previous: before };
      const overlay = new MediaOverlay(state, options, () => {}, sources);
      const target = filled(0);
      overlay.read(0, target);
      return target[0];
    };
    expect(readWith(false)).toBe(5);
    expect(readWith(true)).toBe(1);
    expect(readWith(true, (sector) => filled(8 + sector))).toBe(8);
    expect(readWith(false, () => undefined)).toBe(1);
    expect(readWith(false, () => filled(1))).toBe(1);
  });

  it('a listener that throws keeps the fault from happening', () => {
    const state = stateWith(16, []);
    const refuse = () => {
      throw new Error('not now');
    };
    const overlay = new MediaOverlay(state, resolveMedia({ kinds: explorableFaultKinds }), refuse, {
      choices: { choose: () => 1 },
    });
    expect(() => overlay.write(0, 1)).toThrow('not now');
    expect(state.media.fired).toBe(0);
  });
});

test('without faults of the medium everything is carried out', () => {
  expect(planWrite(undefined, 3, 2)).toEqual({ sector: 3, sectorCount: 2, error: undefined });
  expect(planFlush(undefined)).toEqual({ outcome: 'done' });
  const use = new Use(stateWith(16, []), { kinds: ['lying-flush', 'lost-write'], maxFaults: 2 }, [1, 1]);
  expect(planWrite(use.overlay, 3, 2)).toMatchObject({ sectorCount: 0 });
  expect(planFlush(use.overlay)).toEqual({ outcome: 'lie' });
});

function outcomeOf(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return codeOf(error);
  }
}
