import { describe, expect, test } from 'vitest';
import type { BlockDevice } from '../../src/blockdev/index.ts';
import { sha256 } from '../../src/envelope/index.ts';
import { type StoreRules, soundRules } from '../../src/statefs/rules.ts';
import { bytes, FailingDevice, ioError } from './helpers.ts';
import {
  at,
  type Build,
  type CommitSaid,
  commit,
  erased,
  type Found,
  group,
  LogBuilder,
  type LogOptions,
  log,
  putAll,
  recoveryOf,
  type TempSaid,
  type Transaction,
  temp,
  textOf,
} from './log-builder.ts';
import { expectPage as expectPageOf } from './pages.ts';

const PLACE = new URL('./recovery.txt', import.meta.url);

/** A log by name, and what recovery makes of it. */
type Cases = ReadonlyMap<string, Found>;

function expectPage(title: string, cases: Cases): void {
  expectPageOf(PLACE, title, new Map([...cases].map(([name, found]) => [name, textOf(found)])));
}

const HUGE = Number.MAX_SAFE_INTEGER;
const WORD = 2 ** 32 - 1;
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

type CommitLie = Partial<Omit<CommitSaid, 'entries'>> & { readonly entry?: Partial<CommitSaid['entries'][0]> };

interface Lie {
  readonly temp?: TempSaid;
  readonly commit?: CommitLie;
}

/** Where the group that lies stands, and what else there is. */
interface Place {
  readonly log: LogOptions;
  /** What the frames of the group behind it say was durable before; none: there is no such group. */
  readonly behind?: number;
  readonly isOrdered?: boolean;
  readonly erased?: readonly number[];
}

const PLACES: Readonly<Record<string, Place>> = {
  'below the frontier': { log: at(22, 3), behind: 2 },
  'below the frontier, its temp frame erased': { log: at(22, 3), behind: 2, erased: [18] },
  'below the frontier, its commit erased': { log: at(22, 3), behind: 2, erased: [19] },
  'proven by what follows': { log: at(18, 1), behind: 2 },
  'proven by what follows, its temp frame erased': { log: at(18, 1), behind: 2, erased: [18] },
  'proven by what follows, its commit erased': { log: at(18, 1), behind: 2, erased: [19] },
  'followed, and not proven': { log: at(18, 1), behind: 1 },
  'the last': { log: at(18, 1) },
  'the last, ordered': { log: at(18, 1), isOrdered: true },
  'the last, ordered, its temp frame erased': { log: at(18, 1), isOrdered: true, erased: [18] },
  'the last, a superblock copy lost': { log: { ...at(18, 1), otherLost: true } },
  'behind a log that was closed': { log: at(18, 1, { clean: true }), behind: 2 },
};

/** Groups 1, 2 and 3 at sectors 16, 18 and 20, a temp frame and a commit each; the second one lies. */
function withLie({ log, behind, isOrdered = false, erased = [] }: Place, { temp, commit = {} }: Lie): LogBuilder {
  const builder = new LogBuilder(log);
  const put = (sector: number, sequence: number, durableSequence: number, isLying: boolean): void => {
    const key = `/state/${sequence}`;
    const stamp = { sequence, durableSequence };
    builder.temp(sector, { ...stamp, key, windowSectors: 2, ...(isLying ? temp : {}) });
    const { entry, ...said } = isLying ? commit : ({} as CommitLie);
    const flags = isLying && isOrdered ? 3 : 1;
    builder.commit(sector + 1, { ...stamp, flags, windowSectors: 1, ...said, entries: [{ key, ...entry }] });
  };
  put(16, 1, 0, false);
  if (behind !== undefined) put(20, 3, behind, false);
  put(18, 2, 1, true);
  builder.erase(...erased);
  return builder;
}

function each<T>(what: string, values: readonly T[], lie: (value: T) => Lie): [string, Lie][] {
  return values.map((value) => [
    `${what} ${value === HUGE ? '2^53 - 1' : value === WORD ? '2^32 - 1' : value}`,
    lie(value),
  ]);
}

const temps = <T>(field: string, values: readonly T[]): [string, Lie][] =>
  each(`temp ${field}`, values, (value) => ({ temp: { [field]: value } }));
const commits = <T>(field: string, values: readonly T[]): [string, Lie][] =>
  each(`commit ${field}`, values, (value) => ({ commit: { [field]: value } }));
const commitBodies = (field: string, values: readonly number[]): [string, Lie][] =>
  each(`commit ${field}`, values, (value) => ({ commit: { body: { [field]: value } } }));

const EXTENTS: readonly (readonly [sector: number, frames: number, bytes: number])[] = [
  [16, 1, 1],
  [18, 1, 1],
  [19, 1, 1],
  [100, 0, 0],
  [100, 1, 1],
  [100, 2, 1],
  [131, 2, 1985],
  [132, 2, 1985],
  [133, 2, 1985],
  [135, 1, 1],
  [136, 1, 1],
  [HUGE, 1, 1],
];

const LIES: readonly (readonly [string, Lie])[] = [
  ['the truth', {}],
  ...temps('type', [0, 2, 3, 4, 9]),
  ...temps('flags', [0, 3, 5, 7]),
  ...temps('bodyBytes', [0, 23, 24, 100, 448, 449, 1984, 1985, 0xffff]),
  ...temps('epoch', [8, 9, 11, 12, WORD]),
  ...temps('index', [1, 64, WORD]),
  ...temps('sequence', [0, 1, 3, 4, 7, HUGE]),
  ...temps('sector', [0, 16, 17, 19, 22, 135, 136, 140, HUGE]),
  ...temps('durableSequence', [0, 2, 3, HUGE]),
  ...temps('windowSectors', [0, 1, 3, 4, 118, 119, WORD]),
  ...each('temp kind', [0, 2, 3, 4], (kind) => ({ temp: { body: { kind } } })),
  ...each('temp payload', [1, 0xffff, WORD], (payloadBytes) => ({ temp: { body: { payloadBytes } } })),
  ...each('a deletion of kind', [2, 3], (kind) => ({ temp: { kind }, commit: { entry: { kind } } })),
  ...each('temp key', ['/other', '/state/x'], (key) => ({ temp: { key } })),
  ...each('extent', EXTENTS, ([extentSector, extentFrames, payloadBytes]) => ({
    temp: { body: { extentSector, extentFrames, payloadBytes } },
    commit: { entry: { extentSector, payloadBytes }, body: { payloadFloor: Math.min(136, extentSector) } },
  })),
  ...commits('type', [0, 1, 3, 4]),
  ...commits('flags', [0, 2, 3, 4, 5]),
  ...commits('bodyBytes', [0, 23, 24, 71, 72, 100, 0xffff]),
  ...commits('epoch', [8, 9, 11, 12, WORD]),
  ...commits('index', [1, 2, 64]),
  ...commits('sequence', [0, 1, 3, 4, HUGE]),
  ...commits('sector', [16, 18, 20, 22, 135, 136, 140]),
  ...commits('durableSequence', [0, 2, 3, HUGE]),
  ...commits('windowSectors', [0, 2, 3, 117, 118, WORD]),
  ...commitBodies('groupSector', [0, 16, 17, 19, 20, HUGE]),
  ...commitBodies('payloadFloor', [0, 18, 19, 20, 21, 135, 137, HUGE]),
  ...commitBodies('operationCount', [0, 2, 64, 65]),
  ...commitBodies('firstEntry', [1, 64]),
  ...commitBodies('entryCount', [0, 2]),
  ['commit entry 1 of 2', { commit: { body: { firstEntry: 1, operationCount: 2 } } }],
  ['commit entryCount 2 of 2', { commit: { body: { entryCount: 2, operationCount: 2 } } }],
  ...each('entry kind', [0, 2, 3, 4], (kind) => ({ commit: { entry: { kind } } })),
  ...each('entry key', ['/other', '/state/x'], (key) => ({ commit: { entry: { keyBytes: utf8(key) } } })),
  ['entry payload 1', { commit: { entry: { payloadBytes: 1 } } }],
  ...each('entry extent', [100, HUGE], (extentSector) => ({ commit: { entry: { extentSector } } })),
  ['entry digest of another payload', { commit: { entry: { digest: new Uint8Array(32) } } }],
];

/** What recovery makes of each case. */
function recoveries(cases: Iterable<readonly [string, () => LogBuilder | BlockDevice]>, rules?: StoreRules): Cases {
  const found = new Map<string, Found>();
  for (const [name, build] of cases) {
    const built = build();
    if (found.has(name)) throw new Error(`two cases have the name ${name}`);
    found.set(name, recoveryOf(built instanceof LogBuilder ? built.device : built, rules));
  }
  return found;
}

describe('one field of one frame that lies under good checksums, in a group', () => {
  test.each(Object.entries(PLACES))('%s, costs what its page says, and nothing proven before it', (name, place) => {
    const cases = recoveries(LIES.map(([lie, said]) => [lie, () => withLie(place, said)] as const));
    expectPage(`One lie in a group ${name}`, cases);
    for (const [lie, { groups, keys, damage }] of cases) {
      expect(groups[0], lie).toBe('committed 16-18 #1 durable');
      expect(keys[0], lie).toBe('1 #1 16');
      const written = lie.includes(' key /state/x') ? ['1', '2', '3', 'x'] : ['1', '2', '3'];
      for (const key of keys) expect(written, lie).toContain(key.replace(/[!?]* .*/, ''));
      // A key that is missing below the frontier is missed.
      if (name.startsWith('below') && keys.length < 3 && lie !== 'a deletion of kind 2')
        expect(damage, lie).not.toEqual([]);
    }
  });
});

/** A group of seven puts with keys of full length: seven temp frames, a commit of four sectors, and one of one. */
const LONG_KEYS: readonly string[] = Array.from({ length: 7 }, (_, i) => `/state/${i}${'k'.repeat(246)}`);

/** Sectors as ranges. */
function rangesOf(sectors: readonly number[]): string {
  const ranges: string[] = [];
  for (let i = 0; i < sectors.length; ) {
    let end = i;
    while (sectors[end + 1] === (sectors[end] as number) + 1) end++;
    ranges.push(end > i ? `${sectors[i]}-${sectors[end]}` : `${sectors[i]}`);
    i = end + 1;
  }
  return ranges.join('+') || 'nothing';
}

describe('sectors of a transaction that are erased, in a group', () => {
  const places: Readonly<Record<string, Pick<Place, 'log' | 'behind'> & Pick<Transaction, 'flags' | 'hasWindow'>>> = {
    'below the frontier': { log: at(32, 3), behind: 2 },
    'below the frontier, without windows': { log: at(32, 3), behind: 2, hasWindow: false },
    'proven by what follows': { log: at(18, 1), behind: 2 },
    'proven by what follows, without windows': { log: at(18, 1), behind: 2, hasWindow: false },
    'followed, and not proven': { log: at(18, 1), behind: 1 },
    'the last': { log: at(18, 1) },
    'the last, ordered': { log: at(18, 1), flags: 2 },
    'the last, ordered, without windows': { log: at(18, 1), flags: 2, hasWindow: false },
    'the last, a superblock copy lost': { log: { ...at(18, 1), otherLost: true } },
  };

  const build = (place: (typeof places)[string], keys: readonly string[], erased: readonly number[]): LogBuilder => {
    const { log, behind, flags = 0, hasWindow = true } = place;
    const builder = new LogBuilder(log);
    putAll(builder, 16, { sequence: 1, keys: ['/state/first'] });
    const total = putAll(builder, 18, { sequence: 2, keys, flags, hasWindow });
    if (behind !== undefined)
      putAll(builder, 18 + total, { sequence: 3, keys: ['/state/last'], stamp: { durableSequence: behind } });
    builder.erase(...erased);
    return builder;
  };

  const windowed = Object.entries(places).filter(([, { hasWindow }]) => hasWindow !== false);

  test.each(windowed)('%s, of a commit of two frames: what is whole takes effect', (name, place) => {
    const isProven = name.includes('below') || name.includes('proven by');
    for (let from = 18; from < 30; from++) {
      for (let to = from === 18 ? from : from + 1; to <= 30; to++) {
        const erased = Array.from({ length: to - from }, (_, i) => from + i);
        const { groups, end, keys, damage } = recoveryOf(build(place, LONG_KEYS, erased).device);
        const where = rangesOf(erased);
        const isThere = (first: number, last: number): boolean => last < from || first >= to;
        const temps = LONG_KEYS.map((_, i) => isThere(18 + i, 18 + i));
        const entries = LONG_KEYS.map((_, i) => (i < 6 ? isThere(25, 28) : isThere(29, 29)));
        const isWhole = !entries.includes(false);
        const isOrdered = place.flags === 2 && isWhole;
        const isIn = isProven || isOrdered || (isWhole && !temps.includes(false));
        const expected = LONG_KEYS.flatMap((_, i) => {
          if (!isIn || (!temps[i] && !entries[i])) return [];
          return [`${i}${temps[i] ? '' : '!'}${temps[i] && entries[i] ? '' : '?'} #2 ${temps[i] ? 18 + i : 18}`];
        });
        const first = keys[0];
        const last = isIn && place.behind !== undefined ? ['last #3 30'] : [];
        expect(
          keys.map((key) => key.replace(/k+/, '')),
          where,
        ).toEqual([first, ...expected, ...last]);
        expect(first, where).toBe('first #1 16');
        expect(end.includes('lost'), where).toBe(isIn && expected.length < 7);
        expect(damage.length, where).toBe(isIn && !(isWhole && !temps.includes(false)) ? 1 : 0);
        expect(groups.at(-1), where).toMatch(isIn && place.behind === undefined ? /^(end 30|committed-tail 18)/ : /./);
      }
    }
  });

  test.each(Object.entries(places))('%s, of three keys: any of them', (name, place) => {
    const log = place.log.superblock?.frontierSector === 32 ? at(24, 3) : place.log;
    const cases: [string, () => LogBuilder][] = [];
    for (let set = 0; set < 16; set++) {
      const erased = [18, 19, 20, 21].filter((_, i) => (set >> i) % 2 === 1);
      cases.push([rangesOf(erased), () => build({ ...place, log }, ['/state/x', '/state/y', '/state/z'], erased)]);
    }
    expectPage(`Erased sectors of a transaction of three, ${name}`, recoveries(cases));
  });
});

const ORDERED = 2;
const MOVED = 4;
const LARGE = { sectorCount: 4096 } as const;
const withRules = (rules: Partial<StoreRules>): StoreRules => ({ ...soundRules, ...rules });

describe('proof that a group was durable is looked for', () => {
  /** A temp frame, alone, that says that group 2 was durable before it. */
  const proofAt = (sector: number, said: TempSaid = {}): Build =>
    temp(sector, { sequence: 3, durableSequence: 2, key: '/state/3', windowSectors: 2, ...said });
  const open = { ...LARGE, ...at(18, 1) };
  const clean = { ...LARGE, ...at(18, 1, { clean: true }) };
  const near = (options: LogOptions, distances: readonly number[], said: TempSaid = {}, from = 18, ...more: Build[]) =>
    distances.map((far) => log(`${far} sectors on`, options, ...more, proofAt(from + far, said)));

  test.each<[string, [string, () => LogBuilder][], StoreRules?]>([
    ['a stride behind the frontier', near(open, [1, 2, 7, 8, 9, 10, 63, 64])],
    [
      'a stride behind a group behind the frontier',
      near(open, [63, 64], {}, 20, group(18, 2), (b) => b.temp(0 + 22, { type: 9 })),
    ],
    ['no further than the frontier of a log that was closed', near(clean, [1, 63, 64])],
    ['a stride behind a log that was closed, of a life that follows', near(clean, [1, 63, 64], { epoch: 11 })],
    [
      'not at all behind a log that was closed, without the rule',
      near(clean, [1, 63, 64], { epoch: 11 }, 18),
      withRules({ lostSuperblocks: false }),
    ],
    [
      'a stride behind the frontier, without the rule',
      near(open, [63, 64], {}, 18),
      withRules({ lostSuperblocks: false }),
    ],
    ['two strides and a group further where a copy was lost', near({ ...open, otherLost: true }, [64, 639, 640])],
    ['the same of a log that was closed', near({ ...clean, otherLost: true }, [64, 639, 640], { epoch: 11 })],
    ['up to the end of the region', near(at(126, 1), [8, 9, 10], {}, 126)],
  ])('%s', (name, cases, rules) => {
    expectPage(`Proof is looked for ${name}`, recoveries(cases, rules));
  });

  test('in few reads: sector by sector at first, then in pieces', () => {
    const reads = (...builds: Build[]): string => {
      const builder = new LogBuilder(open);
      group(16, 1)(builder);
      for (const build of builds) build(builder);
      const device = new FailingDevice(builder.device);
      const told: string[] = [];
      device.onRead = (sector, count) => told.push(count === 1 ? `${sector}` : `${sector}+${count}`);
      recoveryOf(device);
      // The superblocks.
      return told.slice(2).join(' ');
    };
    expect(reads()).toBe('16+2 18 19 20 21 22 23 24 25 26 27+8 35+16 51+16 67+15');
    // The payload that nothing proves is read last; what was issued with a torn group not at all.
    expect(reads(group(18, 2))).toBe('16+2 18 19 20 21 22 23 24 25 26 27 28 29+8 37+16 53+16 69+15 18');
    expect(reads(temp(18, { sequence: 2, windowSectors: 2 }))).toBe(
      '16+2 18 19 20 21 22 23 24 25 26 27 28+8 36+16 52+16 68+14',
    );
    expect(reads(proofAt(20))).toBe('16+2 18 19 20 21 22 23 24 25 26 27 28 29 30+8 38+16 54+16 70+14');
  });
});

describe('lives of the log', () => {
  const epochs = [8, 9, 10, 11, 14, 15, WORD];
  const lives = (options: LogOptions, more: Partial<Transaction> = {}): [string, () => LogBuilder][] =>
    epochs.map((epoch) => log(`life ${epoch}`, options, group(18, 2, { ...more, stamp: { epoch, ...more.stamp } })));
  const first = (options: LogOptions): [string, () => LogBuilder][] =>
    epochs.map((epoch) => log(`life ${epoch}`, options, group(16, 1, { stamp: { epoch } })));
  const ahead = { generation: 13 };

  test.each<[string, [string, () => LogBuilder][], Partial<StoreRules>?]>([
    ['below the frontier', lives(at(20, 2))],
    ['below the frontier, without the rule', lives(at(20, 2)), { epochs: false }],
    ['below the frontier, the first', first(at(18, 1))],
    ['below the frontier, the first, in a region that began with life 9', first(at(18, 1, { regionEpoch: 9 }))],
    ['behind the frontier, the first, in a region that began with life 10', first(at(16, 0, { regionEpoch: 10 }))],
    ['behind the frontier', lives(at(18, 1, ahead))],
    ['behind the frontier, ordered', lives(at(18, 1, ahead), { flags: ORDERED })],
    ['behind the frontier, a copy lost', lives({ ...at(18, 1, ahead), otherLost: true })],
    ['behind the frontier, without the rule of lost superblocks', lives(at(18, 1, ahead)), { lostSuperblocks: false }],
    [
      'behind the frontier, a copy lost, without that rule',
      lives({ ...at(18, 1, ahead), otherLost: true }),
      { lostSuperblocks: false },
    ],
    ['behind a log that was closed', lives(at(18, 1, { ...ahead, clean: true }))],
    [
      'behind a log that was closed, without that rule',
      lives(at(18, 1, { ...ahead, clean: true })),
      { lostSuperblocks: false },
    ],
    [
      'behind a log that was closed, a copy lost, without it',
      lives({ ...at(18, 1, { ...ahead, clean: true }), otherLost: true }),
      { lostSuperblocks: false },
    ],
  ])('%s', (name, cases, rules = {}) => {
    expectPage(`A group of another life ${name}`, recoveries(cases, withRules(rules)));
  });

  test('never go back, and numbers always go up', () => {
    const cases = [
      log(
        'a life before that of the group before',
        at(22, 3),
        group(18, 2, { stamp: { epoch: 9 } }),
        group(20, 3, { stamp: { epoch: 8 } }),
      ),
      log('the life of the group before', at(22, 3), group(18, 2), group(20, 3)),
      log('numbers up to the frontier are given out', at(18, 5), group(18, 5), group(20, 6)),
      log('numbers are left out', at(18, 5), group(18, 8), group(20, 11)),
      log('a number comes twice', at(22, 3), group(18, 3), group(20, 3)),
      log('a lost group before the log moved', at(18, 1, { lostSequence: 1 }), group(18, 2)),
      log('the payload floor in the log', at(18, 1, { payloadFloor: 20 }), group(18, 2), group(20, 3)),
    ];
    expectPage('Lives and numbers', recoveries(cases));
  });
});

describe('what stands in another place than it names', () => {
  const stray = (place: number, said: TempSaid): Build =>
    temp(place, { sequence: 9, key: '/state/9', windowSectors: 1, ...said });
  const strays = (options: LogOptions, place: number, ...more: Build[]): [string, () => LogBuilder][] => [
    ...[15, 16, 17, 18, 19, 60, 135, 136, 137].map((sector) =>
      log(`meant for ${sector}`, options, ...more, stray(place, { sector, durableSequence: 2 })),
    ),
    ...[8, 9, 10, 11, 12].map((epoch) =>
      log(`of life ${epoch}`, options, ...more, stray(place, { sector: 60, epoch, durableSequence: 2 })),
    ),
    ...[0, 1, 2, 3, HUGE].map((durableSequence) =>
      log(
        `groups up to ${durableSequence} were durable`,
        options,
        ...more,
        stray(place, { sector: 60, durableSequence }),
      ),
    ),
    ...[2, 3, 4].map((type) =>
      log(`of type ${type}`, options, ...more, stray(place, { sector: 60, type, durableSequence: 2 })),
    ),
  ];

  test.each<[string, [string, () => LogBuilder][], Partial<StoreRules>?]>([
    ['over a temp frame', strays(at(18, 1), 18, group(18, 2))],
    ['over a temp frame, without the rule', strays(at(18, 1), 18, group(18, 2)), { strays: false }],
    ['over a commit', strays(at(18, 1), 19, group(18, 2))],
    [
      'over the second sector of a temp frame',
      strays(at(18, 1), 19, group(18, 2, { tempSaid: () => ({ payload: bytes(600) }) })),
    ],
    ['behind a torn group', strays(at(18, 1), 21, group(18, 2), erased(18))],
    ['behind a torn group, without the rule', strays(at(18, 1), 21, group(18, 2), erased(18)), { strays: false }],
    ['behind a log that was closed', strays(at(18, 1, { clean: true }), 18)],
    ['below the frontier', strays(at(22, 3), 18, group(18, 2), group(20, 3))],
  ])('%s', (name, cases, rules = {}) => {
    expectPage(`A frame in another's place ${name}`, recoveries(cases, withRules(rules)));
  });
});

describe('a commit of a later life behind the temp frames of an earlier one', () => {
  const later = (place: number, said: Partial<CommitSaid> = {}, body: CommitSaid['body'] = {}): Build =>
    commit(place, {
      sequence: 3,
      epoch: 11,
      durableSequence: 1,
      flags: 3,
      windowSectors: 1,
      entries: [{ key: '/state/3' }],
      ...said,
      body: { groupSector: 18, ...body },
    });
  const cases = (options: LogOptions, ...more: Build[]): [string, () => LogBuilder][] => [
    ...[19, 20, 21, 22, 25].map((place) => log(`at ${place}`, options, ...more, later(place))),
    ...[19, 21].flatMap((place) => [
      ...[9, 10, 12].map((epoch) => log(`of life ${epoch} at ${place}`, options, ...more, later(place, { epoch }))),
      ...[1, 2, 4].map((sequence) =>
        log(`of number ${sequence} at ${place}`, options, ...more, later(place, { sequence })),
      ),
      ...[0, 2, 3].map((durableSequence) =>
        log(`after ${durableSequence} at ${place}`, options, ...more, later(place, { durableSequence })),
      ),
      ...[0, 1].map((flags) => log(`of flags ${flags} at ${place}`, options, ...more, later(place, { flags }))),
      ...[0, 2, 5, WORD].map((windowSectors) =>
        log(`of window ${windowSectors} at ${place}`, options, ...more, later(place, { windowSectors })),
      ),
      ...[16, 17, 19, 20].map((groupSector) =>
        log(`of the group at ${groupSector} at ${place}`, options, ...more, later(place, {}, { groupSector })),
      ),
      log(`one of two at ${place}`, options, ...more, later(place, {}, { operationCount: 2 })),
    ]),
  ];
  const life = { epoch: 11, generation: 12 };

  test.each<[string, [string, () => LogBuilder][], Partial<StoreRules>?]>([
    ['the last', cases(at(18, 1, life), temp(18, { sequence: 2, windowSectors: 2 }))],
    ['that no superblock tells of', cases(at(18, 1), temp(18, { sequence: 2, windowSectors: 2 }))],
    [
      'that no superblock tells of, without the rule',
      cases(at(18, 1), temp(18, { sequence: 2, windowSectors: 2 })),
      { strays: false },
    ],
    ['below the frontier', cases(at(26, 4, life), temp(18, { sequence: 2, windowSectors: 2 }))],
    ['below the frontier, of a whole group', cases(at(26, 4, life), group(18, 2))],
    ['below the frontier, of no window', cases(at(26, 4, life), temp(18, { sequence: 2 }))],
    [
      'below the frontier, the temp frames of a transaction',
      cases(at(26, 4, life), group(18, 2, { keys: ['/state/2', '/state/x', '/state/y'] }), erased(20)),
    ],
  ])('%s', (name, built, rules = {}) => {
    expectPage(`A later life ${name}`, recoveries(built, withRules(rules)));
  });
});

describe('records that were moved', () => {
  const keys = ['/state/x', '/state/y', '/state/z'];
  const moved = (numbers: readonly number[], flags: number = MOVED): Partial<Transaction> => ({
    keys,
    flags,
    tempSaid: (i) => ({ sequence: numbers[i] as number }),
  });
  const places: readonly (readonly [string, LogOptions])[] = [
    ['below the frontier', at(22, 9)],
    ['behind the frontier', at(18, 1)],
  ];

  test.each(places)('%s keep their numbers, which go up', (name, options) => {
    const numbers = [
      [3, 5, 9],
      [3, 3, 9],
      [5, 3, 9],
      [3, 9, 5],
      [1, 5, 9],
      [2, 5, 8],
      [3, 5, 10],
    ];
    const cases = numbers.flatMap((own) => [
      log(`${own}`, options, group(18, 9, moved(own))),
      log(`${own}, not flagged`, options, group(18, 9, moved(own, 0))),
      ...[18, 19, 20, 21].map((gone) => log(`${own} without ${gone}`, options, group(18, 9, moved(own)), erased(gone))),
    ]);
    expectPage(`Moved records ${name}`, recoveries(cases));
  });
});

describe('a payload outside of the log', () => {
  const payload = bytes(1984 + 500, 3);
  const keys = ['/state/x'];
  interface Extent {
    readonly said?: readonly [TempSaid, TempSaid];
    readonly flags?: number;
    readonly digest?: Uint8Array;
  }
  const extent = ({ said = [{}, {}], flags = 0, digest = sha256(payload) }: Extent = {}): Build[] => [
    (builder) => {
      const stamp = { sequence: 2 };
      builder.payload(100, payload.subarray(0, 1984), { ...stamp, flags: 0, ...said[0] });
      builder.payload(104, payload.subarray(1984), { ...stamp, index: 1, ...said[1] });
    },
    group(18, 2, {
      keys,
      flags,
      tempSaid: () => ({ payload, body: { extentSector: 100, extentFrames: 2 } }),
      commitSaid: () => ({
        entries: [{ key: '/state/x', payloadBytes: payload.length, extentSector: 100, digest }],
        body: { payloadFloor: 100 },
      }),
    }),
  ];
  const wrong: readonly (readonly [string, TempSaid])[] = [
    ['of another number', { sequence: 3 }],
    ['of another life', { epoch: 9 }],
    ['of another index', { index: 2 }],
    ['of another type', { type: 1 }],
    ['of another length', { bodyBytes: 400 }],
    ['meant for another place', { sector: 60, durableSequence: 2 }],
    ['meant for another place, before the group was durable', { sector: 60, durableSequence: 1 }],
    ['meant for another place, of an earlier life', { sector: 60, epoch: 9, durableSequence: 2 }],
  ];
  const cases = (options: LogOptions, flags = 0, ...more: Build[]): [string, () => LogBuilder][] => [
    log('whole', options, ...extent({ flags }), ...more),
    log('of another SHA-256', options, ...extent({ flags, digest: sha256(bytes(3)) }), ...more),
    ...[100, 101, 103, 104].map((sector) =>
      log(`without ${sector}`, options, ...extent({ flags }), ...more, erased(sector)),
    ),
    ...wrong.flatMap(([name, said]) => [
      log(`first frame ${name}`, options, ...extent({ flags, said: [said, {}] }), ...more),
      log(`second frame ${name}`, options, ...extent({ flags, said: [{}, said] }), ...more),
    ]),
    log(
      'a frame over its second sector',
      options,
      ...extent({ flags }),
      ...more,
      temp(101, { sequence: 9, sector: 60, durableSequence: 2 }),
    ),
  ];

  test.each<[string, [string, () => LogBuilder][], Partial<StoreRules>?]>([
    ['of the last group', cases(at(18, 1))],
    ['of the last group, without checksums', cases(at(18, 1)), { checksums: false }],
    ['of the last group, without the rule of strays', cases(at(18, 1)), { strays: false }],
    ['of the last group, ordered', cases(at(18, 1), ORDERED)],
    ['of a group that another follows', cases(at(18, 1), 0, group(20, 3, { stamp: { durableSequence: 1 } }))],
    ['of a group that is proven', cases(at(18, 1), 0, group(20, 3))],
  ])('%s', (name, built, rules = {}) => {
    expectPage(`A payload ${name}`, recoveries(built, withRules(rules)));
  });

  const failing = (built: LogBuilder, sector: number, times: number): BlockDevice => {
    const device = new FailingDevice(built.device);
    let left = times;
    device.before = (kind, place) => {
      if (kind === 'read' && place === sector && left-- > 0) ioError();
    };
    return device;
  };

  test.each<[string, readonly (readonly [string, () => LogBuilder])[], readonly number[], Partial<StoreRules>?]>([
    ['the last group', [log('the last', at(18, 1), ...extent())], [16, 17, 18, 19, 20, 21, 25, 30, 100, 101, 104]],
    [
      'the last group, without the rule',
      [log('the last', at(18, 1), ...extent())],
      [16, 17, 18, 19, 20, 21, 25, 30, 100, 101, 104],
      { unreadable: false },
    ],
    ['an ordered group', [log('ordered', at(18, 1), ...extent({ flags: ORDERED }))], [16, 18, 19, 20]],
    ['a group below the frontier', [log('below', at(20, 2), ...extent())], [16, 18, 19, 20, 100]],
    [
      'a group that another follows',
      [log('followed', at(18, 1), ...extent(), group(20, 3, { stamp: { durableSequence: 1 } }))],
      [18, 19, 20, 21, 100, 104],
    ],
    ['nothing behind a log that was closed', [log('closed', at(18, 1, { clean: true }))], [18, 19, 25]],
  ])('that the medium does not give, or a sector of %s', (name, [built], sectors, rules = {}) => {
    const [, build] = built as [string, () => LogBuilder];
    const found = sectors.flatMap((sector) => [
      [`${sector} once`, () => failing(build(), sector, 1)] as const,
      [`${sector} twice`, () => failing(build(), sector, 2)] as const,
      [`${sector} never`, () => failing(build(), sector, HUGE)] as const,
    ]);
    expectPage(`Unreadable, ${name}`, recoveries(found, withRules(rules)));
  });

  test.each([16, 18, 19, 20, 100, 101, 104])(
    'a device that fails for good at sector %i ends the opening, unless without the rule',
    (sector) => {
      const [, build] = log('the last', at(18, 1), ...extent());
      const device = new FailingDevice(build().device);
      let isDead = false;
      device.before = (kind, place) => {
        isDead ||= kind === 'read' && place === sector;
        if (isDead) ioError();
      };
      expect(() => recoveryOf(device)).toThrow('the medium failed');
      isDead = false;
      expect(() => recoveryOf(device, withRules({ unreadable: false }))).not.toThrow();
    },
  );
});

describe('groups of other sectors and units', () => {
  const units = { unitBytes: 4096, sectorCount: 512 };
  const long = { sectorBytes: 4096, sectorCount: 64 };
  // A region starts behind two places for superblocks.
  const [a, b, c] = [16, 24, 32];
  const three = (name: string, options: LogOptions, ...more: Build[]): [string, () => LogBuilder] =>
    log(name, options, group(b, 2, { keys: ['/state/x', '/state/y', '/state/z'] }), group(c, 3), ...more);
  const short = (name: string, options: LogOptions, ...more: Build[]): [string, () => LogBuilder] =>
    log(name, options, group(4, 2), group(6, 3), ...more);

  test('start at units, and are looked for there', () => {
    const below = { ...units, ...at(40, 3) };
    const behind = { ...units, ...at(24, 1) };
    const cases = [below, behind].flatMap((options, i) => {
      const place = i === 0 ? 'below the frontier' : 'behind the frontier';
      return [
        three(`${place}, nothing erased`, options),
        ...[[a], [b], [b + 1], [b + 3], [b, b + 1, b + 2, b + 3], [b, b + 3], [c], [c + 1]].map((gone) =>
          three(`${place}, without ${gone}`, options, erased(...gone)),
        ),
        three(
          `${place}, a temp frame where no unit starts`,
          options,
          erased(b, b + 3),
          temp(b + 5, { sequence: 3, durableSequence: 2 }),
        ),
        three(
          `${place}, a temp frame where a unit starts`,
          options,
          erased(b, b + 1, b + 2, b + 3),
          temp(b + 8, { sequence: 3, durableSequence: 2 }),
        ),
      ];
    });
    expectPage('Groups of units of eight sectors', recoveries(cases));
  });

  test('of one sector a frame', () => {
    const below = { ...long, ...at(8, 3) };
    const behind = { ...long, ...at(4, 1) };
    const cases = [below, behind].flatMap((options, i) => {
      const place = i === 0 ? 'below the frontier' : 'behind the frontier';
      return [
        short(`${place}, nothing erased`, options),
        ...[2, 3, 4, 5, 6, 7].map((gone) => short(`${place}, without ${gone}`, options, erased(gone))),
        short(`${place}, a frame that would be longer`, options, temp(4, { sequence: 2, bodyBytes: 4096 })),
        short(
          `${place}, a commit that would be longer`,
          options,
          commit(5, { sequence: 2, bodyBytes: 4033, entries: [{ key: '/state/2' }] }),
        ),
      ];
    });
    expectPage('Groups of sectors of 4,096 bytes', recoveries(cases));
  });

  test('in the second region', () => {
    const options = {
      superblock: { activeRegion: 1, frontierSector: 138, frontierSequence: 1, regionEpoch: 10, clean: false },
    } as const;
    const cases = [
      log('nothing erased', options, group(138, 2), group(140, 3)),
      ...[136, 137, 138, 139, 140].map((gone) =>
        log(`without ${gone}`, options, group(138, 2), group(140, 3), erased(gone)),
      ),
    ];
    expectPage('Groups of the second region', recoveries(cases));
  });
});

describe('a commit whose temp frames are gone', () => {
  const entries = [{ key: '/state/x' }];
  const lone = (place: number, said: Partial<CommitSaid> = {}, body: CommitSaid['body'] = {}): Build =>
    commit(place, {
      sequence: 2,
      durableSequence: 1,
      flags: 3,
      windowSectors: 1,
      entries,
      ...said,
      body: { groupSector: 18, ...body },
    });
  const variants: readonly (readonly [string, Partial<CommitSaid>, CommitSaid['body']?])[] = [
    ['', {}],
    ['of window 0', { windowSectors: 0 }],
    ['of window 2', { windowSectors: 2 }],
    ['not ordered', { flags: 1 }],
    ['not the last', { flags: 2 }],
    ['of index 1', { index: 1 }],
    ['of index 1, not ordered', { index: 1, flags: 1 }],
    ['of number 1', { sequence: 1 }],
    ['of number 5', { sequence: 5 }],
    ['of life 9', { epoch: 9 }],
    ['of life 11', { epoch: 11 }],
    ['after group 2', { durableSequence: 2 }],
    ['of another group', {}, { groupSector: 17 }],
    ['of a group further on', {}, { groupSector: 20 }],
    ['of two operations', {}, { operationCount: 2 }],
    ['the second of two operations', {}, { operationCount: 2, firstEntry: 1 }],
    ['of 65 operations', {}, { operationCount: 65 }],
    ['a payload frame', { type: 3 }],
    ['longer than it can be', { bodyBytes: 2000 }],
    ['longer than it is', { bodyBytes: 500 }],
  ];
  const places = [19, 20, 22, 23, 60];
  const cases = (options: LogOptions, ...more: Build[]): [string, () => LogBuilder][] =>
    places.flatMap((place) =>
      variants.map(([name, said, body]) =>
        log(`at ${place} ${name}`.trim(), options, lone(place, said, body), ...more),
      ),
    );

  test.each<[string, [string, () => LogBuilder][]]>([
    ['behind the frontier', cases(at(18, 1))],
    [
      'behind the frontier, its first temp frame left',
      cases(at(18, 1), temp(18, { sequence: 2, flags: 0, key: '/state/x' })),
    ],
    [
      'behind the frontier, its first temp frame left with the window',
      cases(at(18, 1), temp(18, { sequence: 2, flags: 0, key: '/state/x', windowSectors: 5 })),
    ],
    ['below the frontier', cases(at(70, 3))],
    [
      'below the frontier, its first temp frame left',
      cases(at(70, 3), temp(18, { sequence: 2, flags: 0, key: '/state/x' })),
    ],
  ])('%s', (name, built) => {
    expectPage(`A lone commit ${name}`, recoveries(built));
  });

  test('at the end of the region', () => {
    const options = at(130, 1);
    const cases = [133, 134, 135].flatMap((place) => [
      ...[0, 1, 2, 3].map((windowSectors) =>
        log(`window ${windowSectors} at ${place}`, options, lone(place, { windowSectors }, { groupSector: 130 })),
      ),
      log(`long at ${place}`, options, lone(place, { bodyBytes: 500, windowSectors: 2 }, { groupSector: 130 })),
      log(
        `a temp frame, long, at ${place}`,
        options,
        temp(place, { sequence: 2, bodyBytes: 1000, durableSequence: 1 }),
      ),
    ]);
    const whole = [132, 133, 134].map((sector) => log(`whole at ${sector}`, at(sector, 1), group(sector, 2)));
    const torn = [132, 133, 134].map((sector) =>
      log(`torn at ${sector}`, at(sector, 1), group(sector, 2), erased(sector)),
    );
    expectPage('The end of the region', recoveries([...cases, ...whole, ...torn]));
  });
});

describe('a recovery that leaves a rule out', () => {
  const long = (...gone: number[]): [string, () => LogBuilder] =>
    log(`a transaction of seven without ${gone}`, at(18, 1), group(18, 2, { keys: LONG_KEYS }), erased(...gone));
  const lies = LIES.filter(
    ([name]) => name.includes('digest') || name.includes('bodyBytes 100') || name.includes('type 9'),
  );
  const cases: readonly (readonly [string, () => LogBuilder])[] = [
    long(),
    long(18),
    long(25),
    long(29),
    long(28),
    ...lies.map(([lie, said]) => [lie, () => withLie({ log: at(18, 1) }, said)] as const),
  ];

  test.each(['wholeTransactions', 'checksums', 'epochs', 'strays', 'unreadable', 'lostSuperblocks'] as const)(
    '%s',
    (rule) => {
      const found = [...recoveries(cases, withRules({ [rule]: false }))].map(([name, { keys, ...rest }]) => {
        return [name, { ...rest, keys: keys.map((key) => key.replace(/k{9,}/, '')) }] as const;
      });
      expectPage(
        `Without ${rule}`,
        new Map(
          found.map(([name, one]) => [
            name,
            { ...one, damage: one.damage.map((line) => line.replaceAll(/k{9,}/g, '')) },
          ]),
        ),
      );
    },
  );
});
