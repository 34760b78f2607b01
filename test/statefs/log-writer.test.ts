import { describe, expect, it, test } from 'vitest';
import type { BlockDevice } from '../../src/blockdev/index.ts';
import { VirtualClock, viewOf } from '../../src/core/index.ts';
import { FrameCodec, FrameHeader } from '../../src/statefs/frame.ts';
import {
  type CommitMode,
  MAX_GROUP_OPERATIONS,
  open,
  type StateFs,
  type Transaction,
} from '../../src/statefs/index.ts';
import { FLAG_LAST, FLAG_ORDERED, FRAME_COMMIT, FRAME_HEADER_BYTES, FRAME_TEMP } from '../../src/statefs/layout.ts';
import { decodeSuperblock, type Superblock } from '../../src/statefs/superblock.ts';
import { bytes, codeThrown, FailingDevice, formatted, imageOf, ioError, reopen, STORE_ID } from './helpers.ts';

const START = 16;
/** Sectors that the log may run ahead of the recorded frontier. */
const STRIDE = 64;
const COPIES = [0, 8];

/** Notes what is done to a device: S a superblock, W any other write, F a flush, R a read. */
class Watch extends FailingDevice {
  done = '';
  /** Sectors of the superblocks that were written, and what those say. */
  readonly places: number[] = [];
  readonly superblocks: Superblock[] = [];
  readonly frames: FrameHeader[] = [];
  readonly codec = new FrameCodec(STORE_ID, 512);
  /** The operation that fails, counted from 1. */
  failing = 0;
  #count = 0;

  constructor(inner: BlockDevice) {
    super(inner);
    this.before = (kind, sector) => {
      if (kind === 'read') return;
      this.#note(kind === 'flush' ? 'F' : COPIES.includes(sector) ? 'S' : 'W');
    };
  }

  override read(sector: number, target: Uint8Array): void {
    this.#note('R');
    super.read(sector, target);
  }

  override write(sector: number, source: Uint8Array): void {
    super.write(sector, source);
    if (COPIES.includes(sector)) {
      const found = decodeSuperblock(source, sector === 0 ? 0 : 1);
      if (found.state === 'valid') this.superblocks.push(found.superblock);
      this.places.push(sector);
      return;
    }
    for (let at = 0; at < source.length; at += 512) {
      const header = new FrameHeader();
      if (this.codec.parse(source, viewOf(source), at, sector + at / 512, header)) this.frames.push(header);
    }
  }

  #note(what: string): void {
    this.done += what;
    if (++this.#count === this.failing) ioError();
  }

  /** What was done since the last call; from the next on `failing` counts. */
  take(failing = 0): string {
    const { done } = this;
    this.done = '';
    this.superblocks.length = 0;
    this.places.length = 0;
    this.frames.length = 0;
    this.failing = failing;
    this.#count = 0;
    return done;
  }
}

function watched(sectorCount = 1024, options: Parameters<typeof open>[1] = {}): { device: Watch; store: StateFs } {
  const device = new Watch(formatted(sectorCount));
  const store = open(device, { compaction: 'manual', ...options });
  device.take();
  return { device, store };
}

const many = (tx: Transaction, count: number): void => {
  for (let i = 0; i < count; i++) tx.put(`/state/${i}`, bytes(0));
};

/** Changes, with what they do to the device, and which of those leave in doubt what it holds where they fail. */
const CHANGES: [string, string, string, (store: StateFs) => unknown][] = [
  ['a checksummed put', 'WF', '!!', (store) => store.putAtomic('/state/a', bytes(10))],
  ['one with a payload of its own', 'WWF', '.!!', (store) => store.putAtomic('/state/a', bytes(3000))],
  ['a put that waits', 'W', '!', (store) => store.put('/state/a', bytes(10))],
  ['an ordered put', 'WFRWF', '.!.!!', (store) => store.putAtomic('/state/a', bytes(10), { commit: 'ordered' })],
  [
    'an ordered one with a payload of its own',
    'WWFRRWF',
    '..!..!!',
    (store) => store.putAtomic('/state/a', bytes(3000), { commit: 'ordered' }),
  ],
  ['a deletion', 'WF', '!!', (store) => store.delete('/state/old')],
  ['an ordered deletion', 'WFRWF', '.!.!!', (store) => store.delete('/state/old', { commit: 'ordered' })],
  ['the first long commit', 'SFWF', '!!!!', (store) => store.transaction((tx) => many(tx, 30))],
  ['the first step of compaction', 'SFR', '!!.', (store) => store.compactStep(1)],
  ['all of compaction', 'SFRWFSFSF', '!!..!!!!!', (store) => store.compact()],
];

describe('what is done to the device by', () => {
  test.each(CHANGES)('%s: %s, of which may not fail: %s', (_name, does, doubtful, change) => {
    for (let failing = 0; failing <= does.length; failing++) {
      const { device, store } = watched();
      store.putAtomic('/state/old', bytes(20));
      device.take(failing);
      const before = store.stats().lastSequence;
      const code = codeThrown(() => change(store));
      expect(code).toBe(failing === 0 ? 'none' : 'EIO');
      expect(device.take()).toBe(failing === 0 ? does : does.slice(0, failing));
      const isDoubtful = failing > 0 && doubtful[failing - 1] === '!';
      expect(store.isLatched, `${failing}`).toBe(isDoubtful);
      const next = codeThrown(() => store.putAtomic('/state/next', bytes(30)));
      expect(next).toBe(isDoubtful ? 'EIO' : 'none');
      if (isDoubtful) {
        expect(device.take()).toBe('');
        continue;
      }
      // What was given up keeps its number.
      const isGroup = !/compaction/.test(_name);
      expect(store.stats().lastSequence).toBe(before + (isGroup ? 2 : 1));
      expect(reopen(device).get('/state/next')).toEqual(bytes(30));
    }
  });

  test('the first change of a life: a superblock, durable before it; it fails with the life in doubt', () => {
    for (const [failing, does] of [
      [0, 'SFWF'],
      [1, 'S'],
      [2, 'SF'],
    ] as const) {
      const { device, store } = watched();
      device.take(failing);
      expect(codeThrown(() => store.putAtomic('/state/a', bytes(1)))).toBe(failing === 0 ? 'none' : 'EIO');
      expect(device.take()).toBe(does);
      expect(store.isLatched).toBe(failing > 0);
    }
  });

  test('the end of a life: all is durable, then the superblock that says so, durably; nothing where nothing was written', () => {
    for (const [failing, does] of [
      [0, 'FSF'],
      [1, 'F'],
      [2, 'FS'],
      [3, 'FSF'],
    ] as const) {
      const { device, store } = watched();
      store.put('/state/a', bytes(3000));
      device.take(failing);
      expect(codeThrown(() => store.close())).toBe(failing === 0 ? 'none' : 'EIO');
      expect(store.isLatched).toBe(failing > 0);
      const [closing] = device.superblocks;
      if (does === 'FSF') {
        const frontier = { frontierSector: START + 2, frontierSequence: 1, payloadFloor: 520 - 7 };
        expect(closing).toMatchObject({ clean: true, ...frontier });
      }
      expect(device.take()).toBe(does);
      store.close();
      expect(device.take()).toBe('');
    }
    const { device, store } = watched();
    store.close();
    expect(device.take()).toBe('');
  });

  test('a close that comes after a doubt: nothing, and an error only where a caller may not know of a loss', () => {
    for (const unsynced of [false, true]) {
      const { device, store } = watched();
      store.putAtomic('/state/a', bytes(1));
      if (unsynced) store.put('/state/a', bytes(2));
      device.take(1);
      expect(codeThrown(() => store.compact())).toBe('EIO');
      device.take();
      expect(codeThrown(() => store.close())).toBe(unsynced ? 'EIO' : 'none');
      expect(device.take()).toBe('');
    }
  });
});

describe('compaction', () => {
  it('opens the life of the log first where that has none yet, and costs no more the second time', () => {
    const { device, store } = watched();
    store.putAtomic('/state/a', bytes(10));
    const later = open(device, { compaction: 'manual' });
    device.take();
    later.compact();
    expect(device.superblocks.map(({ epoch }) => epoch)).toEqual([4, 4, 6, 6]);
    expect(device.take()).toBe('SFSFRWFSFSF');
    later.compact();
    expect(device.take()).toBe('SFRWFSFSF');
  });
});

describe('a scrub', () => {
  const noise = new Uint8Array(512).fill(0xee);

  /** A store of which copies of the superblock go bad; the newer one stands at the last of `copies`. */
  function damaged(wrong: readonly ('newer' | 'older')[], hasLife: boolean) {
    const inner = formatted(1024);
    const device = new Watch(inner);
    const first = open(device, { compaction: 'manual' });
    first.putAtomic('/state/a', bytes(10));
    const newer = device.places.at(-1) as number;
    const older = newer === 0 ? 8 : 0;
    const store = hasLife ? first : open(device, { compaction: 'manual' });
    for (const one of wrong) inner.write(one === 'newer' ? newer : older, noise);
    device.take();
    return { device, store, newer, older };
  }
  const withoutReads = (done: string): string => done.replaceAll('R', '');

  test.each([true, false])('writes anew only what is wrong, and flushes it, in a life: %s', (hasLife) => {
    for (const [wrong, places] of [
      [['older'], ['older']],
      [['newer'], ['newer']],
      [
        ['older', 'newer'],
        ['older', 'newer'],
      ],
    ] as const) {
      const { device, store, newer, older } = damaged(wrong, hasLife);
      store.scrub();
      expect(device.places).toEqual(places.map((one) => (one === 'newer' ? newer : older)));
      expect(withoutReads(device.take())).toBe('SF'.repeat(places.length));
      // A copy that is written in turn opens the life.
      store.putAtomic('/state/b', bytes(10));
      expect(device.take()).toBe(hasLife || wrong[0] === 'older' ? 'WF' : 'SFWF');
      const image = imageOf(device);
      for (const copy of [0, 1] as const) {
        expect(decodeSuperblock(image.subarray(copy * 4096, copy * 4096 + 512), copy).state).toBe('valid');
      }
    }
  });

  it('leaves in doubt what the disk holds where it fails to write one, or to flush it', () => {
    for (const wrong of ['older', 'newer'] as const) {
      for (const failing of ['write', 'flush']) {
        const { device, store } = damaged([wrong], true);
        device.before = (kind) => kind === failing && ioError();
        expect(codeThrown(() => store.scrub())).toBe('EIO');
        expect(store.isLatched).toBe(true);
      }
    }
  });
});

describe('long commits', () => {
  it('are told by a feature bit before the first of them, once and for all lives; short ones are not', () => {
    const { device, store } = watched(4096);
    // One commit sector: 24 bytes and 57 for each key of nine, in 448.
    store.transaction((tx) => many(tx, 7));
    expect(device.take()).toBe('SFWF');
    store.transaction((tx) => many(tx, 7));
    expect(device.take()).toBe('WF');
    store.transaction((tx) => many(tx, 8));
    expect(device.superblocks.map(({ features, clean }) => [features, clean])).toEqual([[2, false]]);
    expect(device.take()).toBe('SFWF');
    store.transaction((tx) => many(tx, MAX_GROUP_OPERATIONS));
    expect(device.take()).toMatch(/^(SF?)?WF$/);
    const later = open(device);
    device.take();
    later.transaction((tx) => many(tx, 8));
    expect(device.superblocks.map(({ features }) => features)).toEqual([2]);
    expect(device.take()).toBe('SFWF');
  });
});

describe('the recorded frontier', () => {
  const lazily = (store: StateFs, count: number): void => {
    for (let i = 0; i < count; i++) store.put('/state/a', bytes(10, i));
  };

  it('is never passed by more than a stride: with lazy puts a flush and a superblock come when the next would', () => {
    const { device, store } = watched();
    lazily(store, STRIDE / 2);
    expect(device.take()).toBe(`SF${'W'.repeat(32)}`);
    for (let round = 1; round <= 3; round++) {
      lazily(store, 1);
      const frontier = { frontierSector: START + round * STRIDE, frontierSequence: round * 32, payloadFloor: 520 };
      expect(device.superblocks).toMatchObject([{ ...frontier, clean: false }]);
      expect(device.take()).toBe('FSW');
      lazily(store, 31);
      expect(device.take()).toBe('W'.repeat(31));
    }
  });

  it('needs no flush of its own where what came before is durable, and says what the last one covered', () => {
    const { device, store } = watched();
    for (let i = 0; i < STRIDE / 2; i++) store.putAtomic('/state/a', bytes(10, i));
    expect(device.take()).toBe(`SF${'WF'.repeat(32)}`);
    store.putAtomic('/state/a', bytes(10));
    expect(device.superblocks).toMatchObject([{ frontierSector: START + STRIDE, frontierSequence: 32 }]);
    expect(device.take()).toBe('SWF');
    // Twenty more, the last of which makes all durable with its payload; then lazily on to the end of the stride.
    lazily(store, 19);
    store.putAtomic('/state/large', bytes(3000));
    const durable = START + STRIDE + 2 + 2 * 20;
    lazily(store, 11);
    device.take();
    lazily(store, 1);
    const frontier = { frontierSector: durable, frontierSequence: 53, payloadFloor: 520 - 7 };
    expect(device.superblocks).toMatchObject([frontier]);
    expect(device.take()).toBe('SW');
    // A stride beyond that nothing is durable, that superblock included.
    lazily(store, (STRIDE - 24) / 2);
    expect(device.take()).toBe('W'.repeat(20));
    lazily(store, 1);
    expect(device.superblocks).toMatchObject([{ frontierSector: durable + STRIDE, frontierSequence: 53 + 32 }]);
    expect(device.take()).toBe('FSW');
  });

  it('is recorded without a flush up to a whole stride past what is durable, and in doubt where that fails', () => {
    for (const failing of [0, 1]) {
      const { device, store } = watched();
      store.putAtomic('/state/a', bytes(10));
      lazily(store, STRIDE / 2 - 1);
      expect(device.take(failing)).toBe(`SFWF${'W'.repeat(31)}`);
      expect(codeThrown(() => lazily(store, 1))).toBe(failing === 0 ? 'none' : 'EIO');
      if (failing === 0) expect(device.superblocks).toMatchObject([{ frontierSector: START + 2, frontierSequence: 1 }]);
      expect(device.take()).toBe(failing === 0 ? 'SW' : 'S');
      expect(store.isLatched).toBe(failing > 0);
    }
  });

  it('may be passed by one group that is longer than a stride, once all before it is durable', () => {
    const { device, store } = watched(4096);
    const long = (): void =>
      store.transaction((tx) => {
        for (let i = 0; i < MAX_GROUP_OPERATIONS; i++) tx.put(`/state/${i}`, bytes(1500, i));
      });
    store.put('/state/a', bytes(10));
    device.take();
    long();
    expect(device.superblocks.at(-1)).toMatchObject({ frontierSector: START + 2, frontierSequence: 1 });
    expect(device.take()).toBe('SFSWF');
    long();
    expect(device.take()).toBe('SWF');
    store.put('/state/a', bytes(10));
    device.take();
    long();
    expect(device.take()).toBe('FSWF');
    expect(reopen(device).list()).toHaveLength(MAX_GROUP_OPERATIONS + 1);
  });
});

describe('frames', () => {
  it('say which group was durable before them, and an ordered commit what its own flush has covered', () => {
    const { device, store } = watched();
    const said = (): number[][] => {
      const found = device.frames.map(({ type, flags, sequence, durableSequence }) => [
        type,
        flags & ~FLAG_LAST,
        sequence,
        durableSequence,
      ]);
      device.take();
      return found;
    };
    const checksummed = (sequence: number, durable: number): number[][] => [
      [FRAME_TEMP, 0, sequence, durable],
      [FRAME_COMMIT, 0, sequence, durable],
    ];
    store.put('/state/a', bytes(1));
    expect(said()).toEqual(checksummed(1, 0));
    store.put('/state/a', bytes(2));
    expect(said()).toEqual(checksummed(2, 0));
    store.sync();
    store.put('/state/a', bytes(3));
    expect(said()).toEqual(checksummed(3, 2));
    store.putAtomic('/state/a', bytes(4), { commit: 'ordered' });
    expect(said()).toEqual([
      [FRAME_TEMP, 0, 4, 2],
      [FRAME_COMMIT, FLAG_ORDERED, 4, 3],
    ]);
    store.putAtomic('/state/a', bytes(5));
    expect(said()).toEqual(checksummed(5, 4));
    store.compact();
    said();
    store.put('/state/a', bytes(6));
    expect(said()).toEqual(checksummed(6, 5));
    const later = open(device);
    device.take();
    later.put('/state/a', bytes(7));
    // What recovery found was durable: it has flushed the device.
    expect(said()).toEqual(checksummed(7, 6));
  });

  it('are followed by zeros up to the end of their unit, whatever larger group was written before', () => {
    for (const commit of ['ordered', 'checksummed'] as const) {
      const device = formatted(2048, 512, 4096);
      device.write(16, new Uint8Array(1024 * 512).fill(0xee));
      const store = open(device, { commit });
      store.transaction((tx) => {
        for (let i = 0; i < 20; i++) tx.put(`/state/${i}`, bytes(500, i));
      });
      const before = store.stats().freeBytes;
      store.putAtomic('/state/a', bytes(10));
      expect(before - store.stats().freeBytes).toBe(4096);
      const end = 16 + 1016 - store.stats().freeBytes / 512;
      const image = imageOf(device).subarray((end - 8) * 512, (end + 1) * 512);
      expect(image.subarray(2 * 512, 8 * 512).every((byte) => byte === 0)).toBe(true);
      expect(image.subarray(8 * 512).every((byte) => byte === 0xee)).toBe(true);
    }
  });
});

describe('temp frames that are read back', () => {
  /** Seals a frame again after a change, as if it had been meant. */
  function resealed(
    codec: FrameCodec,
    target: Uint8Array,
    sector: number,
    change: (header: FrameHeader) => void,
  ): void {
    const view = viewOf(target);
    const header = new FrameHeader();
    expect(codec.parse(target, view, 0, sector, header)).toBe(true);
    codec.restore(view, 0, header);
    change(header);
    codec.seal(target, view, 0, header);
  }

  const flip = (target: Uint8Array, at: number): void => {
    target[at] = (target[at] as number) ^ 1;
  };
  type Lie = (codec: FrameCodec, target: Uint8Array, sector: number) => void;
  const lies: [string, Lie][] = [
    ['a header that is damaged', (_codec, target) => flip(target, 20)],
    ['a body that is damaged', (_codec, target) => flip(target, 150)],
    ['another group', (codec, target, sector) => resealed(codec, target, sector, (header) => header.sequence++)],
    ['another length', (codec, target, sector) => resealed(codec, target, sector, (header) => header.bodyBytes++)],
    [
      'another payload, sealed',
      (codec, target, sector) =>
        resealed(codec, target, sector, ({ bodyBytes }) => flip(target, FRAME_HEADER_BYTES + bodyBytes - 1)),
    ],
  ];

  /** Changes what the device returns for the read that is the `nth` of the next change. */
  function lying(nth: number, lie: Lie, change: (store: StateFs) => void, sectorCount = 2048): string {
    const inner = formatted(sectorCount);
    const device = new FailingDevice(inner);
    const store = open(device, { commit: 'ordered' });
    store.putAtomic('/state/first', bytes(9));
    const codec = new FrameCodec(STORE_ID, 512);
    const read = device.read.bind(device);
    let count = 0;
    device.read = (sector, target) => {
      read(sector, target);
      if (++count === nth) lie(codec, target, sector);
    };
    const code = codeThrown(() => change(store));
    device.read = read;
    if (code === 'none') return code;
    expect(store.isLatched).toBe(false);
    expect(reopen(inner).list()).toEqual(['/state/first']);
    store.putAtomic('/state/next', bytes(4));
    expect(reopen(inner).list()).toEqual(['/state/first', '/state/next']);
    return code;
  }

  test.each(lies)('and give %s commit nothing: one of several, small or of several sectors', (_name, lie) => {
    for (const length of [20, 700, 1500]) {
      expect(lying(1, lie, (store) => store.putAtomic('/state/a', bytes(length)))).toBe('EINTEGRITY');
      for (const nth of [1, 2, 3]) {
        const change = (store: StateFs) =>
          store.transaction((tx) => {
            for (let i = 0; i < 3; i++) tx.put(`/state/t${i}`, bytes(length + i, i));
          });
        expect(lying(nth, lie, change)).toBe('EINTEGRITY');
        expect(lying(4, lie, change)).toBe('none');
      }
    }
  });

  test('are held to their payloads where those stand outside of the log', () => {
    const put = (store: StateFs) => store.putAtomic('/state/a', bytes(3000));
    const other: Lie = (codec, target, sector) =>
      resealed(codec, target, sector, () => flip(target, FRAME_HEADER_BYTES + 50));
    expect(lying(2, other, put)).toBe('EINTEGRITY');
    expect(lying(2, (_codec, target) => flip(target, 100), put)).toBe('EINTEGRITY');
    expect(
      lying(1, (codec, target, sector) => resealed(codec, target, sector, (header) => header.sequence++), put),
    ).toBe('EINTEGRITY');
    expect(lying(3, other, put)).toBe('none');
  });

  test('of a deletion have no payload that could be wrong', () => {
    const inner = formatted();
    const store = open(inner, { commit: 'ordered' });
    store.putAtomic('/state/a', bytes(9));
    expect(store.delete('/state/a')).toBe(true);
    expect(reopen(inner).list()).toEqual([]);
  });

  test('and are those of a put that was given up in the same place commit nothing', () => {
    const clock = new VirtualClock();
    const device = new FailingDevice(formatted());
    const store = open(device, { commit: 'ordered' as CommitMode, clock });
    store.putAtomic('/state/first', bytes(9));
    device.before = (kind) => kind === 'write' && clock.advance(10);
    expect(codeThrown(() => store.putAtomic('/state/a', bytes(20), { deadlineMs: 5 }))).toBe('EDEADLINE');
    device.before = () => {};
    let writes = 0;
    device.drop = () => ++writes === 1;
    expect(codeThrown(() => store.putAtomic('/state/a', bytes(20)))).toBe('EINTEGRITY');
    expect(writes).toBe(1);
    expect(reopen(device).list()).toEqual(['/state/first']);
  });
});
