import { describe, expect, test } from 'vitest';
import type { BlockDevice } from '../../src/blockdev/index.ts';
import { equalBytes, VirtualClock } from '../../src/core/index.ts';
import { encode, sha256, wrap } from '../../src/envelope/index.ts';
import {
  type CheckResult,
  type FsckReport,
  fsck,
  type Inspection,
  inspect,
  open,
  type ScrubReport,
  type StoreRules,
  soundRules,
} from '../../src/statefs/index.ts';
import { SUPERBLOCK } from '../../src/statefs/layout.ts';
import { encodeSuperblock, readSuperblocks, type Superblock } from '../../src/statefs/superblock.ts';
import { bytes, codeThrown, deviceOf, FailingDevice, formatted, imageOf, ioError } from './helpers.ts';
import {
  at,
  type Build,
  commit,
  erased,
  group,
  LogBuilder,
  type LogOptions,
  log,
  type TempSaid,
  temp,
} from './log-builder.ts';
import { expectPage } from './pages.ts';

const PLACE = new URL('./findings.txt', import.meta.url);

function textOfCheck(check: CheckResult): string {
  const { findings, keys, verifiedValues, verifiedBytes, rows, lastSequence, closed, space } = check;
  const counts = Object.entries(rows).map(([row, count]) => `${count} ${row}`);
  const lines = [
    `${keys} keys, ${verifiedValues} verified of ${verifiedBytes} bytes; ${counts.join(', ')}; #${lastSequence}${closed ? ', closed' : ''}`,
    space === undefined
      ? 'no space'
      : `space ${space.logBytes}/${space.liveLogBytes} + ${space.freeBytes} + ${space.payloadBytes}/${space.livePayloadBytes} = ${space.regionBytes}`,
  ];
  for (const { kind, severity, sector, offsetBytes, keys: named, what, lost, repair, code } of findings) {
    lines.push(
      `${severity} ${kind} at ${sector}, byte ${offsetBytes}, of [${named.join(' ')}]; ${what}; lost: ${lost}; ` +
        `repair: ${repair}${code === undefined ? '' : `; ${code}`}`,
    );
  }
  return lines.join('\n');
}

/** What fsck says of a device, and what a repair does, everything. */
function fsckText(device: BlockDevice, rules: StoreRules = soundRules): string {
  const before = fsck(device, { rules });
  const found = textOfCheck(before.check);
  let report: FsckReport;
  try {
    report = fsck(device, { repair: true, rules });
  } catch (error) {
    return `${before.verdict}\n${found}\nits repair throws ${(error as Error).message}`;
  }
  const { verdict, repairs, after } = report;
  const done = repairs.map((line) => `did: ${line}`);
  const then = after === undefined ? [] : [`then ${textOfCheck(after).replaceAll('\n', '\n  ')}`];
  return [`${before.verdict}, ${verdict}`, found, ...done, ...then].join('\n');
}

function inspectText(device: BlockDevice): string {
  const { superblocks, groups, ...rest }: Inspection = inspect(device);
  const lines = [JSON.stringify(rest)];
  for (const { copy, state, why, inUse, fields } of superblocks) {
    lines.push(`copy ${copy} ${state}${inUse ? ', in use' : ''}, ${why}: ${JSON.stringify(fields)}`);
  }
  for (const { frames, blankSectors, ...one } of groups) {
    lines.push(
      JSON.stringify(one),
      ...frames.map((frame) => `  ${JSON.stringify(frame)}`),
      `  blank [${blankSectors}]`,
    );
  }
  return lines.map((line) => line.replaceAll('"', '').replaceAll(/[0-9a-f]{64}/g, (hex) => hex.slice(0, 8))).join('\n');
}

const keys = ['/state/x', '/state/y', '/state/z'];
const payload = bytes(1984 + 500, 3);

/** Group 2 at sector 18, its value in two payload frames from sector `place` on. */
const extent =
  (
    place = 100,
    said: Parameters<LogBuilder['payload']>[2] = {},
    digest = sha256(payload),
    key = '/state/x',
    sector = 18,
    sequence = 2,
  ): Build =>
  (builder) => {
    builder.payload(place, payload.subarray(0, 1984), { sequence, flags: 0, ...said });
    builder.payload(place + 4, payload.subarray(1984), { sequence, index: 1 });
    group(sector, sequence, {
      keys: [key],
      tempSaid: () => ({ payload, body: { extentSector: place, extentFrames: 2 } }),
      commitSaid: () => ({
        entries: [{ key, payloadBytes: payload.length, extentSector: place, digest }],
        body: { payloadFloor: place },
      }),
    })(builder);
  };

const three = (more: Partial<Parameters<typeof group>[2]> = {}): Build => group(18, 2, { keys, ...more });
const closed = (sector: number, sequence: number, more: LogOptions['superblock'] = {}): LogOptions =>
  at(sector, sequence, { clean: true, ...more });

/** Writes one superblock copy. */
const superblock =
  (place: number, copy: 0 | 1, change: Partial<Superblock>): Build =>
  ({ device }) => {
    const [, current] = readSuperblocks(device);
    if (current.state !== 'valid') throw new Error('the log has no superblock');
    const sector = new Uint8Array(512);
    encodeSuperblock({ ...current.superblock, ...change }, copy, sector);
    device.write(place, sector);
  };

/** Logs with all kinds of damage. */
const DAMAGED: readonly (readonly [string, () => LogBuilder])[] = [
  log('sound', closed(22, 2), three()),
  log('sound, open', at(18, 1), three()),
  log('a temp frame lost', closed(22, 2), three(), erased(19)),
  log('two temp frames lost', closed(22, 2), three(), erased(19, 20)),
  log('all temp frames lost', closed(22, 2), three(), erased(18, 19, 20)),
  log('a commit lost', closed(22, 2), three(), erased(21)),
  log('a commit and a temp frame lost', closed(22, 2), three(), erased(19, 21)),
  log('a commit and the last temp frame lost', closed(22, 2), three(), erased(20, 21)),
  log('all of it lost', closed(22, 2), three(), erased(18, 19, 20, 21)),
  log('all of it lost, replaced later', closed(26, 3), three(), group(22, 3, { keys }), erased(18, 19, 20, 21)),
  log(
    'a commit lost, two keys replaced later',
    closed(25, 3),
    three(),
    group(22, 3, { keys: keys.slice(1) }),
    erased(21),
  ),
  log('a commit lost, all keys replaced later', closed(26, 3), three(), group(22, 3, { keys }), erased(21)),
  log(
    'a temp frame lost, its key replaced later',
    closed(24, 3),
    three(),
    group(22, 3, { keys: keys.slice(1, 2) }),
    erased(19),
  ),
  log(
    'a temp frame lost, its key deleted later',
    closed(24, 3),
    three(),
    group(22, 3, { keys: keys.slice(1, 2), kinds: [2] }),
    erased(19),
  ),
  log('a temp frame of a deletion lost', closed(22, 2), three({ kinds: [1, 2, 1] }), erased(19)),
  log('a commit of deletions lost', closed(22, 2), three({ kinds: [2, 2, 2] }), erased(21)),
  log('a commit of a put and a deletion lost', closed(22, 2), three({ kinds: [1, 2, 2] }), erased(21)),
  log('two groups damaged, the later of the same keys', closed(26, 3), three(), group(22, 3, { keys }), erased(21, 25)),
  log(
    'a contradiction',
    closed(22, 2),
    three({ commitSaid: () => ({ entries: keys.map((key) => ({ key, payloadBytes: 1 })) }) }),
  ),
  log(
    'a contradiction that is replaced later',
    closed(26, 3),
    three({ commitSaid: () => ({ entries: keys.map((key) => ({ key, payloadBytes: 1 })) }) }),
    group(22, 3, { keys }),
  ),
  log(
    'temp frames that contradict a commit, one lost',
    closed(22, 2),
    three({ commitSaid: () => ({ entries: keys.map((key) => ({ key, payloadBytes: 1 })) }) }),
    erased(19),
  ),
  log('a commit of another group', closed(22, 2), three({ commitSaid: () => ({ body: { groupSector: 17 } }) })),
  log('two groups damaged, a temp frame of each', closed(26, 3), three(), group(22, 3, { keys }), erased(19, 23)),
  log('a value lost before', closed(22, 2), three({ kinds: [1, 3, 1] })),
  log('a group lost before the log moved', closed(22, 2, { lostSequence: 1 }), three()),
  log('a payload whose first frame is wrong', closed(20, 2, { payloadFloor: 100 }), extent(100, { epoch: 9 })),
  log('a payload of another SHA-256', closed(20, 2, { payloadFloor: 100 }), extent(100, {}, sha256(bytes(5)))),
  log('a sound payload', closed(20, 2, { payloadFloor: 100 }), extent()),
  log('a payload of the last group that is torn', at(18, 1), extent(100, { epoch: 9 })),
  log(
    'two payloads, one over the other',
    closed(22, 3, { payloadFloor: 96 }),
    extent(),
    extent(96, {}, sha256(payload), '/state/y', 20, 3),
  ),
  log(
    'two payloads, next to each other',
    closed(22, 3, { payloadFloor: 94 }),
    extent(),
    extent(94, {}, sha256(payload), '/state/y', 20, 3),
  ),
  log('a payload at the end of the log', closed(20, 2, { payloadFloor: 20 }), extent(20)),
  log('a payload in the log', closed(26, 2, { payloadFloor: 30 }), extent(24)),
  log('a number past that of the frontier', closed(20, 1), group(18, 2)),
  log('the number of the frontier', closed(20, 2), group(18, 2)),
  log('a frontier that nothing reaches', closed(30, 2), group(18, 2)),
  log('a torn group at the end', at(18, 1), three(), erased(19)),
  log('a commit that is missing at the end', at(18, 1), three(), erased(21)),
  log('temp frames that are missing at the end', at(18, 1), three(), erased(18, 19, 20)),
  log('a torn deletion', at(18, 1), three({ kinds: [2, 1, 1] }), erased(20)),
  log(
    'a write that went astray over the end',
    at(18, 1),
    three(),
    temp(19, { sequence: 9, sector: 60, durableSequence: 1 }),
  ),
  log(
    'a write that went astray over a commit',
    at(18, 1),
    three(),
    temp(21, { sequence: 9, sector: 60, durableSequence: 1 }),
  ),
  log('a later life that no superblock tells of', at(18, 1), group(18, 2, { stamp: { epoch: 12 } })),
  log('a later life behind a log that was closed', closed(18, 1), group(18, 2, { stamp: { epoch: 12 } })),
  log('a copy lost', { ...closed(18, 1), otherLost: true }),
  log('a copy lost of a log that is open', { ...at(18, 1), otherLost: true }, three()),
  log('a copy lost, and a torn end', { ...at(18, 1), otherLost: true }, three(), erased(20)),
  log(
    'a copy lost, and a value',
    { ...closed(20, 2, { payloadFloor: 100 }), otherLost: true },
    extent(100, { epoch: 9 }),
  ),
  log('a copy lost, and keys', { ...closed(22, 2), otherLost: true }, three(), erased(18, 19, 20, 21)),
  log('the newer copy in the place of the older', closed(18, 1), superblock(0, 1, { generation: 12, epoch: 11 })),
  log('the older copy in the place of the newer', closed(18, 1), superblock(8, 0, { generation: 9, epoch: 9 })),
  log('copies whose generations skip', closed(18, 1), superblock(0, 0, { generation: 7, epoch: 7 })),
  log(
    'a copy of another store',
    closed(18, 1),
    superblock(0, 0, { generation: 3, epoch: 3, storeId: new Uint8Array(16).fill(9) }),
  ),
  log('copies of one generation', closed(18, 1), superblock(0, 0, {})),
];

describe('fsck and its repair say all of', () => {
  test.each(DAMAGED)('%s', (name, build) => {
    expectPage(PLACE, `fsck: ${name}`, new Map([['it', fsckText(build().device)]]));
  });

  const failing = (build: () => LogBuilder, ...sectors: number[]): FailingDevice => {
    const device = new FailingDevice(build().device);
    device.before = (kind, sector) => {
      if (kind === 'read' && sectors.includes(sector)) ioError();
    };
    return device;
  };

  test.each<[string, readonly [string, () => LogBuilder], number[]]>([
    ['a live value', log('', closed(20, 2, { payloadFloor: 100 }), extent()), [100]],
    ['a temp frame', log('', closed(22, 2), three()), [19]],
    ['a temp frame of one key', log('', closed(20, 2), group(18, 2)), [18]],
    ['a commit', log('', closed(22, 2), three()), [21]],
    ['the end of the log', log('', at(18, 1), three()), [20]],
    ['what stands behind the log', log('', at(18, 1), three()), [25, 26]],
    ['what stands behind a log that was closed', log('', closed(18, 1)), [25]],
    ['a superblock', log('', closed(18, 1)), [0]],
  ])('a medium that does not give %s', (name, [, build], sectors) => {
    expectPage(
      PLACE,
      `fsck: the medium does not give ${name}`,
      new Map([['it', fsckText(failing(build, ...sectors))]]),
    );
  });

  test('a defect: whatever is no failure of the device passes through, from each read', () => {
    const [, build] = log('', closed(20, 2, { payloadFloor: 100 }), extent());
    let left = 0;
    for (let nth = 1; left <= 0; nth++) {
      const device = new FailingDevice(build().device);
      left = nth;
      device.before = (kind) => {
        if (kind === 'read' && --left === 0) throw new RangeError('a defect');
      };
      const code = codeThrown(() => fsck(device));
      expect(code).toBe(left > 0 ? 'none' : 'RangeError: a defect');
    }
  });

  test('a wrong argument, and flush before they look only where they repair', () => {
    const [, build] = log('', closed(22, 2), three());
    const device = new FailingDevice(build().device);
    for (const wrong of [null, 'repair']) {
      expect(() => fsck(device, wrong as never)).toThrow(/^options: expected an object/);
    }
    const barriers = { ...soundRules.barriers, open: false };
    fsck(device);
    fsck(device, { repair: true, rules: { ...soundRules, barriers } });
    expect(device.flushes).toBe(0);
    fsck(device, { repair: true });
    expect(device.flushes).toBe(1);
    expect(device.writes).toBe(0);
  });

  test('groups and payloads that stand at no unit', () => {
    const options = { unitBytes: 4096, sectorCount: 512, ...closed(32, 2, { payloadFloor: 98 }) };
    const cases = [104, 98].map((place): [string, string] => {
      const [, build] = log('', options, extent(place, {}, sha256(payload), '/state/x', 24));
      return [`${place}`, fsckText(build().device)];
    });
    expectPage(PLACE, 'fsck: payloads by their sector', new Map(cases));
  });

  test('what no store can be opened on', () => {
    const [, sound] = log('', closed(22, 2), three());
    const changed = (change: (image: Uint8Array) => void): BlockDevice => {
      const image = imageOf(sound().device);
      change(image);
      return deviceOf(image);
    };
    const devices: [string, BlockDevice][] = [
      ['zeros', deviceOf(new Uint8Array(131_072))],
      ['both copies damaged', changed((image) => image.fill(1, 100, 101).fill(1, 4196, 4197))],
      ['an image cut short', deviceOf(imageOf(sound().device).slice(0, 65_536))],
      [
        'an unknown feature',
        (() => {
          const builder = sound();
          for (const copy of [0, 1] as const)
            superblock(copy * 8, copy, { features: 1 << 7, generation: 20 + copy })(builder);
          return builder.device;
        })(),
      ],
      [
        'copies of one generation',
        changed((image) => image.copyWithin(0, 4096, 4608).fill(0, SUPERBLOCK.copy, SUPERBLOCK.copy + 1)),
      ],
    ];
    expectPage(PLACE, 'fsck: no store', new Map(devices.map(([name, device]) => [name, fsckText(device)])));
  });
});

describe('inspect shows all of', () => {
  const shown = [
    'sound',
    'a temp frame lost',
    'a commit of a put and a deletion lost',
    'all of it lost',
    'a contradiction',
    'a value lost before',
    'a sound payload',
    'a torn group at the end',
    'a write that went astray over the end',
    'a later life that no superblock tells of',
    'a copy lost',
    'the newer copy in the place of the older',
    'copies whose generations skip',
  ];

  test.each(DAMAGED.filter(([name]) => shown.includes(name)))('%s', (name, build) => {
    expectPage(PLACE, `inspect: ${name}`, new Map([['it', inspectText(build().device)]]));
  });

  const oneFrame: readonly (readonly [string, LogOptions, Build[]])[] = [
    [
      'a frame of each type',
      closed(24, 2),
      [
        group(18, 2),
        ...[3, 4, 9].map((type, i) => temp(20 + i, { sequence: 2, type })),
        group(18, 2, { hasWindow: false, stamp: { windowSectors: 6 } }),
      ],
    ],
    ['a temp frame that makes no sense', closed(20, 2), [group(18, 2, { tempSaid: () => ({ body: { kind: 7 } }) })]],
    [
      'a commit that makes no sense',
      closed(20, 2),
      [group(18, 2, { commitSaid: () => ({ body: { operationCount: 0 } }) })],
    ],
    ['a frame longer than it can be', closed(20, 2), [group(18, 2, { tempSaid: () => ({ bodyBytes: 0xffff }) })]],
    [
      'a damaged frame of three sectors',
      closed(22, 2),
      [
        group(18, 2, { tempSaid: () => ({ payload: bytes(1200) }) }),
        ({ device }) =>
          device.write(
            19,
            Uint8Array.from({ length: 512 }, (_, i) => [0x53, 0x46, 0x63, 0x2e][i] ?? 7),
          ),
        commit(21, {
          sequence: 2,
          windowSectors: 1,
          entries: [{ key: '/state/2', payloadBytes: 1200 }],
          body: { groupSector: 18 },
        }),
      ],
    ],
    ['moved records', closed(22, 9), [group(18, 9, { keys, flags: 4, tempSaid: (i) => ({ sequence: 3 * (i + 1) }) })]],
    ['an ordered commit', closed(20, 2), [group(18, 2, { flags: 2 })]],
    [
      'units of eight sectors',
      { unitBytes: 4096, sectorCount: 512, ...closed(40, 3) },
      [group(24, 2), group(32, 3), erased(32, 33), ({ device }) => device.write(36, new Uint8Array(512).fill(1))],
    ],
  ];

  test.each(oneFrame)('%s', (name, options, builds) => {
    const [, build] = log('', options, ...builds);
    expectPage(PLACE, `inspect: ${name}`, new Map([['it', inspectText(build().device)]]));
  });

  test('a frame at the end of the device, whole or longer than that', () => {
    const options = { superblock: { activeRegion: 1, frontierSector: 256, frontierSequence: 2, clean: true } } as const;
    const cases = [254, 253, 252].map((sector): [string, string] => {
      const builder = new LogBuilder(options);
      group(136, 1, { stamp: { windowSectors: 120 }, hasWindow: false })(builder);
      temp(sector, { sequence: 1, payload: bytes(1200) })(builder);
      return [`${sector}`, inspectText(builder.device).split('\n').slice(4).join('\n')];
    });
    expectPage(PLACE, 'inspect: the end of the device', new Map(cases));
  });

  test('what the medium does not give', () => {
    const [, build] = log('', closed(22, 2), three());
    const device = new FailingDevice(build().device);
    device.before = (kind, sector) => {
      if (kind === 'read' && sector === 19) ioError();
    };
    expectPage(PLACE, 'inspect: a sector that can not be read', new Map([['it', inspectText(device)]]));
    let reads = 0;
    device.before = () => {
      reads++;
    };
    inspect(device);
    let left = reads;
    device.before = () => {
      if (--left === 0) throw new RangeError('a defect');
    };
    expect(() => inspect(device)).toThrow('a defect');
  });
});

function textOfScrub({ verifiedBytes, verifiedValues, damaged, mended, findings }: ScrubReport): string {
  const lines = [`${verifiedBytes} bytes, ${verifiedValues} values verified, ${damaged} damaged, ${mended} mended`];
  for (const { part, sector, offsetBytes, keys: named, what, lost, mended: how } of findings) {
    lines.push(`${part} at ${sector}, byte ${offsetBytes}, of [${named.join(' ')}]; ${what}; lost: ${lost}; ${how}`);
  }
  return lines.join('\n');
}

describe('a scrub says all of', () => {
  const openable = DAMAGED.filter(([name]) => name !== 'copies of one generation');
  const options = { compaction: 'manual', acceptStale: true, clock: new VirtualClock() } as const;

  test.each(openable)('%s, found when the store was opened', (name, build) => {
    const cases = [false, true].map((readOnly): [string, string] => {
      const store = open(build().device, { ...options, readOnly });
      return [
        readOnly ? 'read-only' : 'for writing',
        `${textOfScrub(store.scrub())}\nagain ${textOfScrub(store.scrub())}`,
      ];
    });
    expectPage(PLACE, `scrub: ${name}`, new Map(cases));
  });

  const [, sound] = log('', closed(23, 3, { payloadFloor: 100 }), extent(), group(20, 3, { keys: keys.slice(1) }));
  const places = [0, 8, 16, 17, 18, 19, 20, 21, 22, 100, 101, 104];
  const spoiled = ({ device }: LogBuilder, ...sectors: number[]): void => {
    for (const sector of sectors) device.write(sector, new Uint8Array(512).fill(0xa5));
  };

  test('sectors that went bad while the store was in use', () => {
    const cases = [...places.map((place) => [place]), [0, 8], [18, 19], [20, 21], [16, 17, 18, 19, 20, 21, 22]].flatMap(
      (gone) =>
        [false, true].map((readOnly): [string, string] => {
          const builder = sound();
          const store = open(builder.device, { ...options, readOnly });
          spoiled(builder, ...gone);
          return [
            `${gone}${readOnly ? ', read-only' : ''}`,
            `${textOfScrub(store.scrub())}\nagain ${textOfScrub(store.scrub())}`,
          ];
        }),
    );
    expectPage(PLACE, 'scrub: sectors that went bad', new Map(cases));
  });

  test('sectors that the medium does not give, once or for good', () => {
    const cases = places.flatMap((place) =>
      [1, 2, 100].map((times): [string, string] => {
        const device = new FailingDevice(sound().device);
        const store = open(device, options);
        let left = times;
        device.before = (kind, sector) => {
          if (kind === 'read' && sector === place && left-- > 0) ioError();
        };
        return [`${place}, ${times} times`, textOfScrub(store.scrub())];
      }),
    );
    expectPage(PLACE, 'scrub: sectors that are not given', new Map(cases));
  });

  test('values that went bad after the log moved, and of which a copy is left behind', () => {
    const cases = [
      [],
      [136],
      [137],
      [138],
      [18],
      [100],
      [136, 16],
      [16],
      [137, 18],
      [250],
      [250, 100],
      [250, 18],
      [246],
    ].map((gone): [string, string] => {
      const builder = sound();
      const store = open(builder.device, options);
      store.compact();
      spoiled(builder, ...gone);
      return [`${gone}`, `${textOfScrub(store.scrub())}\nagain ${textOfScrub(store.scrub())}`];
    });
    expectPage(PLACE, 'scrub: copies left behind', new Map(cases));
  });

  test('its progress, step by step', () => {
    const cases = [1, 512, 1024, 4096].flatMap((bytesOfStep) =>
      [[], [0], [19], [104]].map((gone): [string, string] => {
        const builder = sound();
        const store = open(builder.device, options);
        spoiled(builder, ...gone);
        const told: number[] = [];
        let report: ScrubReport | undefined;
        while (report === undefined) {
          report = store.scrubStep(bytesOfStep);
          told.push(store.stats().scrubbedBytes);
        }
        return [`steps of ${bytesOfStep} bytes, ${gone} bad`, told.join(' ')];
      }),
    );
    const large = open(formatted(16_384), options);
    for (let i = 0; i < 40; i++) large.put(`/state/${i}`, bytes(500, i));
    large.putAtomic('/state/large', bytes(300_000));
    const told: string[] = [];
    for (let report: ScrubReport | undefined; report === undefined; ) {
      report = large.scrubStep(8192);
      told.push(`${large.stats().scrubbedBytes}`);
      // What is put meanwhile is not looked at; what is put again is not looked at twice.
      if (told.length === 2) large.put('/state/later', bytes(600));
      if (told.length === 7) large.put('/state/large', bytes(20));
    }
    cases.push(['a large value that is put again meanwhile', told.join(' ')]);
    expectPage(PLACE, 'scrub: steps', new Map(cases));
  });

  test('more than it keeps: events tell of the rest', () => {
    const inner = formatted(8192);
    const device = new FailingDevice(inner);
    let told = 0;
    const store = open(device, { ...options, onEvent: ({ type }) => (told += type === 'scrub-damage' ? 1 : 0) });
    for (let i = 0; i < 1050; i++) store.put(`/state/${i}`, bytes(1));
    store.sync();
    device.before = (kind, sector) => {
      if (kind === 'read' && sector >= 16) ioError();
    };
    const { findings, damaged, mended, verifiedValues } = store.scrub();
    expect(findings.length).toBe(1000);
    expect([damaged, mended, verifiedValues]).toEqual([told, 0, 0]);
    expect(damaged).toBeGreaterThanOrEqual(1051);
  });

  test('a defect: whatever is no failure of the device passes through, from each read', () => {
    for (let nth = 1; nth < 1000; nth++) {
      const builder = sound();
      spoiled(builder, 101);
      const device = new FailingDevice(builder.device);
      const store = open(device, options);
      let left = nth;
      device.before = (kind) => {
        if (kind === 'read' && --left === 0) throw new RangeError('a defect');
      };
      const code = codeThrown(() => store.scrub());
      if (left > 0) {
        expect(nth).toBeGreaterThan(10);
        return;
      }
      expect(code).toBe('RangeError: a defect');
    }
  });

  test('room that is missing: what could be put right stays, and is told', () => {
    const device = formatted(64);
    const store = open(device, options);
    store.putAtomic('/state/a', bytes(1200));
    store.compact();
    while (codeThrown(() => store.putAtomic('/state/b', bytes(300))) === 'none');
    const at = inspect(device).groups.find(({ frames }) =>
      frames.some(({ operations }) => operations.some(({ key }) => key === '/state/a')),
    );
    const sector = at?.sector ?? 0;
    device.write(sector + 1, new Uint8Array(512));
    const report = store.scrub();
    expect(report.findings.map(({ part, keys: named, mended }) => [part, named, mended])).toEqual([
      ['log', ['/state/a'], 'moved'],
      ['value', ['/state/a'], undefined],
    ]);
  });
});

describe('a value is read as it was committed, or not at all:', () => {
  const value = bytes(40, 5);
  const [, sound] = log(
    '',
    closed(20, 2),
    group(18, 2, {
      tempSaid: () => ({ payload: value }),
      commitSaid: () => ({ entries: [{ key: '/state/2', payloadBytes: value.length, digest: sha256(value) }] }),
    }),
  );
  const other = bytes(40, 6);
  const wrapped = (payload: Uint8Array): Uint8Array => encode(wrap(payload, { subject: '', purpose: '', ts: 0 }));
  const truth = { sequence: 2, key: '/state/2', payload: value, windowSectors: 2, durableSequence: 1 } as const;
  const lies: readonly (readonly [string, TempSaid])[] = [
    ['nothing', {}],
    ['its type', { type: 2 }],
    ['its number', { sequence: 1 }],
    ['its life', { epoch: 9 }],
    ['its length', { bodyBytes: 100 }],
    ['its place', { sector: 17 }],
    ['its payload', { payload: other, body: { envelope: wrapped(value) } }],
    ['its payload and envelope', { payload: other }],
    ['the length in its envelope', { body: { envelope: wrapped(value.subarray(1)) } }],
    ['its envelope', { body: { envelope: wrapped(value).fill(0, 5) } }],
  ];

  const texts = (rules: StoreRules, hasCommit: boolean): [string, string][] =>
    lies.map(([name, lie]) => {
      const builder = sound();
      if (!hasCommit) erased(19)(builder);
      const told: string[] = [];
      const store = open(builder.device, {
        rules,
        clock: new VirtualClock(),
        onEvent: (event) => told.push(event.type === 'damage' ? JSON.stringify(event) : event.type),
      });
      told.length = 0;
      builder.temp(18, { ...truth, ...lie });
      const outcomes = [() => store.get('/state/2'), () => store.stat('/state/2')].map((use) => {
        try {
          const got = use();
          return got instanceof Uint8Array
            ? `${got.length} bytes${equalBytes(got, value) ? '' : ', other ones'}`
            : 'stat';
        } catch (error) {
          return `${(error as { code?: string }).code} ${(error as Error).message}`;
        }
      });
      return [name, [...outcomes, ...told].join('\n')];
    });

  test.each([
    ['with its commit', soundRules, true],
    ['without its commit', soundRules, false],
    ['without checksums', { ...soundRules, checksums: false }, true],
  ] as const)('%s', (name, rules, hasCommit) => {
    expectPage(PLACE, `read: ${name}`, new Map(texts(rules, hasCommit)));
  });

  test('a device that fails is EIO, and a defect stays one', () => {
    for (const [isLarge, place] of [
      [false, 18],
      [true, 18],
      [true, 104],
    ] as const) {
      const [, large] = log('', closed(20, 2, { payloadFloor: 100 }), extent(100, {}, sha256(payload), '/state/2'));
      const device = new FailingDevice((isLarge ? large : sound)().device);
      const store = open(device, { clock: new VirtualClock() });
      const failing = (thrown: () => never): void => {
        device.before = (kind, sector) => (kind === 'read' && sector === place ? thrown() : undefined);
      };
      failing(ioError);
      expect(codeThrown(() => store.get('/state/2'))).toBe('EIO');
      failing(() => {
        throw new RangeError('a defect');
      });
      expect(() => store.get('/state/2')).toThrow(RangeError);
    }
  });
});
