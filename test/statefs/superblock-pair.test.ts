import { describe, expect, test } from 'vitest';
import { codeOf } from '../../src/core/index.ts';
import { storeGeometry } from '../../src/statefs/geometry.ts';
import { type StoreRules, soundRules } from '../../src/statefs/index.ts';
import { FEATURE_LONG_COMMITS, FEATURE_MOVED, MAX_EPOCH } from '../../src/statefs/layout.ts';
import {
  encodeSuperblock,
  judgeSuperblocks,
  readSuperblocks,
  type Superblock,
  type SuperblockVerdict,
} from '../../src/statefs/superblock.ts';
import { SuperblockPair } from '../../src/statefs/superblock-pair.ts';
import { FailingDevice, formatted } from './helpers.ts';

const GEOMETRY = storeGeometry(512, 512, 512);
const PLACES = GEOMETRY.superblockSectors;
const START = GEOMETRY.regionSectors[0];
const FRONTIER = { frontierSector: START + 3, frontierSequence: 9, payloadFloor: START + 40 };

/** A pair on a device that notes in order what is written and flushed: `0` and `1` are the copies, `f` a flush. */
class Notes {
  readonly device = new FailingDevice(formatted());
  readonly pair: SuperblockPair;
  #done = '';

  constructor(change: Partial<SuperblockVerdict> = {}, rules: Partial<StoreRules> = {}, lostEpoch = 0) {
    const verdict = { ...judgeSuperblocks(readSuperblocks(this.device), soundRules), ...change };
    this.device.before = (kind, sector) => {
      if (kind === 'write') this.#done += PLACES.indexOf(sector) >= 0 ? PLACES.indexOf(sector) : `[${sector}]`;
    };
    this.pair = new SuperblockPair(this.device, GEOMETRY, verdict, { ...soundRules, ...rules }, lostEpoch);
  }

  /** As the writer does it. */
  readonly flush = (): void => {
    this.#done += 'f';
    this.pair.flushed();
  };

  /** What was done since the last call. */
  take(): string {
    const done = this.#done;
    this.#done = '';
    return done;
  }

  /** What the device has, which must be what the pair says is current. */
  found(): Superblock {
    const { current } = judgeSuperblocks(readSuperblocks(this.device), soundRules);
    expect(current).toEqual(this.pair.current);
    return current;
  }
}

/** Each that writes a copy, with what it does where the current one is durable. */
const WRITES: readonly {
  readonly name: string;
  readonly does: string;
  readonly run: (notes: Notes) => unknown;
  readonly leaves: Partial<Superblock>;
}[] = [
  {
    name: 'advance',
    does: '0',
    run: ({ pair, flush }) => pair.advance(FRONTIER, flush),
    leaves: { ...FRONTIER, clean: false, epoch: 1, generation: 3, features: 0 },
  },
  {
    name: 'addFeature',
    does: '0f',
    run: ({ pair, flush }) => pair.addFeature(FEATURE_LONG_COMMITS, FRONTIER, flush),
    leaves: { ...FRONTIER, clean: false, epoch: 1, generation: 3, features: FEATURE_LONG_COMMITS },
  },
  {
    name: 'reserveEpoch',
    does: '0f',
    run: ({ pair, flush }) => expect(pair.reserveEpoch(FRONTIER, flush)).toBe(3),
    leaves: { ...FRONTIER, clean: false, epoch: 1, generation: 3, features: 0 },
  },
  {
    name: 'move',
    does: '0f1f',
    run: ({ pair, flush }) => pair.move({ ...FRONTIER, regionEpoch: 2, lostSequence: 5 }, flush),
    leaves: {
      ...FRONTIER,
      clean: false,
      epoch: 3,
      generation: 4,
      features: FEATURE_MOVED,
      activeRegion: 1,
      regionEpoch: 2,
      lostSequence: 5,
    },
  },
  {
    name: 'close',
    does: '0',
    run: ({ pair, flush }) => pair.close(FRONTIER, flush),
    leaves: { ...FRONTIER, clean: true, epoch: 1, generation: 3, features: 0 },
  },
  {
    name: 'openLife',
    does: '0f',
    run: ({ pair, flush }) => pair.openLife(FRONTIER, flush),
    leaves: { ...FRONTIER, clean: false, epoch: 3, generation: 3, features: 0 },
  },
];

describe('a superblock pair', () => {
  test.each(WRITES)('writes the older copy, $name', ({ does, run, leaves }) => {
    const notes = new Notes();
    expect([notes.pair.currentCopy, notes.pair.current.generation]).toEqual([1, 2]);
    run(notes);
    expect(notes.take()).toBe(does);
    // Of a move into the other region only the fields are of interest: nothing stands there.
    expect(notes.pair.current).toMatchObject(leaves);
    if (leaves.activeRegion === undefined) notes.found();
  });

  test.each(WRITES.filter(({ name }) => name !== 'openLife'))(
    'flushes first where the newer copy may not be durable, $name',
    ({ does, run }) => {
      const notes = new Notes();
      notes.pair.advance(FRONTIER, notes.flush);
      expect(notes.take()).toBe('0');
      const { generation } = notes.pair.current;
      try {
        run(notes);
      } catch (error) {
        // Its epoch is a later one.
        if (codeOf(error) !== undefined) throw error;
      }
      const swapped = does.replaceAll(/[01]/g, (copy) => (copy === '0' ? '1' : '0'));
      expect(notes.take()).toBe(`f${swapped}`);
      expect(notes.pair.current.generation).toBeGreaterThan(generation);
      // And after its own write in turn, unless it has flushed that.
      notes.pair.advance(FRONTIER, notes.flush);
      const next = notes.pair.currentCopy;
      expect(notes.take()).toBe(does.endsWith('f') ? `${next}` : `f${next}`);
    },
  );

  test('keeps clean what it says of all else, and features once added', () => {
    const notes = new Notes();
    const { storeId, sectorCount } = notes.pair.current;
    notes.pair.addFeature(FEATURE_LONG_COMMITS, FRONTIER, notes.flush);
    notes.pair.move({ ...FRONTIER, regionEpoch: 1, lostSequence: 0 }, notes.flush);
    notes.pair.move({ ...FRONTIER, regionEpoch: 1, lostSequence: 0 }, notes.flush);
    expect(notes.pair.current).toMatchObject({
      storeId,
      sectorCount,
      activeRegion: 0,
      features: FEATURE_LONG_COMMITS | FEATURE_MOVED,
    });
  });

  test('opens a life above any that a lost copy may have opened, with both copies anew', () => {
    const lost = { otherLost: true, otherWhy: 'unreadable' };
    // The copy may have been one ahead; frames may tell of more.
    for (const [lostEpoch, generation] of [
      [0, 5],
      [1, 5],
      [7, 9],
    ] as const) {
      const notes = new Notes(lost, {}, lostEpoch);
      notes.pair.openLife(FRONTIER, notes.flush);
      expect(notes.take()).toBe('0f1f');
      expect(notes.found()).toMatchObject({ ...FRONTIER, epoch: generation, generation, clean: false });
      const [first, second] = readSuperblocks(notes.device);
      // The one below it is of this life as well: whichever is lost next, its frames count.
      const older = first.state === 'valid' && second.state === 'valid' ? first.superblock : undefined;
      expect(older).toMatchObject({ ...FRONTIER, epoch: generation - 1, generation: generation - 1, clean: false });
      notes.pair.openLife(FRONTIER, notes.flush);
      expect(notes.take()).toBe('0f');
    }
  });

  test('opens a life above the epoch that frames tell of, where both copies are there', () => {
    const notes = new Notes({}, {}, 12);
    notes.pair.openLife(FRONTIER, notes.flush);
    expect(notes.take()).toBe('0f1f');
    expect(notes.pair.current).toMatchObject({ epoch: 14, generation: 14 });
    const below = new Notes({}, {}, 1);
    below.pair.openLife(FRONTIER, below.flush);
    expect(below.pair.current).toMatchObject({ epoch: 4, generation: 4 });
  });

  test('gives no epochs where the rule is off', () => {
    const notes = new Notes({}, { epochs: false });
    const { epoch } = notes.pair.current;
    notes.pair.openLife(FRONTIER, notes.flush);
    expect(notes.pair.current).toMatchObject({ epoch, generation: 3 });
    expect(notes.pair.reserveEpoch(FRONTIER, notes.flush)).toBe(epoch);
  });

  test('uses the last epoch, and none after it', () => {
    const { current } = new Notes().pair;
    const notes = new Notes({ current: { ...current, generation: MAX_EPOCH - 1 } });
    notes.pair.advance(FRONTIER, notes.flush);
    expect(notes.pair.current.generation).toBe(MAX_EPOCH);
    notes.take();
    expect(() => notes.pair.advance(FRONTIER, notes.flush)).toThrow(/used up its 2\^32 epochs/);
    expect(notes.take()).toBe('f');
  });

  test('says of each copy why it can not be used', () => {
    const notes = new Notes();
    expect(notes.pair.read()).toEqual([undefined, undefined]);
    const sector = new Uint8Array(512);
    const put = (copy: 0 | 1, change: Partial<Superblock>) => {
      encodeSuperblock({ ...notes.pair.current, ...change }, copy, sector);
      notes.device.write(PLACES[copy], sector);
    };
    put(1, { frontierSequence: 77 });
    expect(notes.pair.read()).toEqual([undefined, 'it is another one than was written']);
    notes.pair.rewrite();
    expect(notes.pair.read()).toEqual([undefined, undefined]);
    const { generation, storeId } = notes.pair.current;
    for (const [change, why] of [
      [{ generation: generation - 1 }, undefined],
      [{ generation }, `its generation is ${generation}, past that of the other`],
      [{ generation: generation + 1 }, `its generation is ${generation + 1}, past that of the other`],
      [{ generation: generation + 1, storeId: storeId.map((byte) => byte ^ 1) }, undefined],
    ] as const) {
      put(0, change);
      expect(notes.pair.read()).toEqual([why, undefined]);
    }
    notes.device.write(PLACES[0], sector.fill(1));
    expect(notes.pair.read()).toEqual(['it does not start with STATEFS', undefined]);
    notes.device.write(PLACES[1], sector);
    expect(notes.pair.read()[1]).toBe('it does not start with STATEFS');
  });

  test('writes nothing over the good copy where the other did not arrive', () => {
    const notes = new Notes({ otherLost: true, otherWhy: 'damaged' });
    notes.device.drop = (sector) => sector === PLACES[0];
    expect(() => notes.pair.openLife(FRONTIER, notes.flush)).toThrow(/copy 0 was written and is not there/);
    expect(notes.take()).toBe('0f');
    const trusting = new Notes({ otherLost: true, otherWhy: 'damaged' }, { verifiedRewrites: false });
    trusting.device.drop = (sector) => sector === PLACES[0];
    trusting.pair.openLife(FRONTIER, trusting.flush);
    expect(trusting.take()).toBe('0f1f');
  });
});
