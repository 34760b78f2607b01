import { describe, expect, it } from 'vitest';
import { type BlockDevice, TracingDevice } from '../../src/blockdev/index.ts';
import { viewOf } from '../../src/core/index.ts';
import { FrameCodec, FrameHeader } from '../../src/statefs/frame.ts';
import { type FsckReport, format, fsck, open, soundRules } from '../../src/statefs/index.ts';
import { FRAME_MAGIC } from '../../src/statefs/layout.ts';
import {
  bytes,
  codeThrown,
  deviceOf,
  FailingDevice,
  formatted,
  imageOf,
  ioError,
  reopen,
  STORE_ID,
} from './helpers.ts';

const META = { subject: 'fsck', purpose: 'test', ts: 7 };

/** Groups in the order of the log, each with its first sector. */
interface Sample {
  readonly image: Uint8Array;
  readonly model: ReadonlyMap<string, Uint8Array>;
  readonly places: Readonly<
    Record<'small' | 'inline' | 'extent' | 'gone' | 'again' | 'deletion' | 'pair' | 'last', number>
  >;
  readonly extentSector: number;
}

/** Every kind of record, two lives, both commit modes, an overwritten key, a deleted one. */
function sample(close = true): Sample {
  const device = formatted(256);
  const model = new Map<string, Uint8Array>();
  const places: Record<string, number> = {};
  let store = open(device);
  const end = (): number => 136 - Math.ceil(extentSectors(device)) - store.stats().freeBytes / 512;
  const put = (place: string, key: string, value: Uint8Array, commit: 'ordered' | 'checksummed' = 'checksummed') => {
    places[place] = end();
    store.putAtomic(key, value, { commit, meta: META });
    model.set(key, value);
  };
  put('small', '/state/small', bytes(20));
  put('inline', '/state/inline', bytes(1200, 2), 'ordered');
  put('extent', '/state/extent', bytes(2500, 3));
  put('gone', '/state/gone', bytes(10, 4));
  store = open(device);
  put('again', '/state/small', bytes(30, 5));
  places.deletion = end();
  store.delete('/state/gone');
  model.delete('/state/gone');
  places.pair = end();
  store.transaction((tx) => {
    tx.put('/state/one', bytes(50, 7), { meta: META });
    tx.put('/state/two', bytes(60, 8), { meta: META });
  });
  model.set('/state/one', bytes(50, 7)).set('/state/two', bytes(60, 8));
  put('last', '/state/last', bytes(40, 6));
  if (close) store.close();
  return { image: imageOf(device), model, places: places as Sample['places'], extentSector: 136 - 6 };
}

/** The only extent takes 6 sectors once it is there. */
function extentSectors(device: BlockDevice): number {
  const sector = new Uint8Array(512);
  device.read(130, sector);
  return new DataView(sector.buffer).getUint32(0, true) === FRAME_MAGIC ? 6 : 0;
}

function flipped(image: Uint8Array, at: number, mask = 1 << (at % 8)): Uint8Array {
  const changed = image.slice();
  changed[at] = (changed[at] as number) ^ mask;
  return changed;
}

function kinds({ check }: FsckReport): string[] {
  return check.findings.map(({ kind, severity }) => `${severity} ${kind}`);
}

const CLEAN = sample();

describe('fsck of what is sound', () => {
  it('is clean, and accounts for every byte', () => {
    const { verdict, check, repairs, after } = fsck(deviceOf(CLEAN.image));
    expect({ verdict, repairs, after, findings: check.findings }).toEqual({
      verdict: 'clean',
      repairs: [],
      after: undefined,
      findings: [],
    });
    const values = [...CLEAN.model.values()];
    expect(check).toMatchObject({
      keys: values.length,
      verifiedValues: values.length,
      verifiedBytes: values.reduce((sum, value) => sum + value.length, 0),
      lastSequence: 8,
      closed: true,
    });
    const space = check.space as NonNullable<typeof check.space>;
    expect(space.logBytes + space.payloadBytes + space.freeBytes).toBe(space.regionBytes);
    expect(space.livePayloadBytes).toBe(6 * 512);
    expect(space.payloadBytes).toBe(6 * 512);
    // Of the log, one frame each of last, one, two, small, extent, and inline's three.
    expect(space.liveLogBytes).toBe(8 * 512);
    expect(space.regionBytes).toBe(120 * 512);
  });

  it('writes nothing, repairing or not', () => {
    for (const repair of [false, true]) {
      const device = new FailingDevice(deviceOf(CLEAN.image));
      fsck(device, { repair });
      expect(device.writes).toBe(0);
    }
  });

  it('tells how far it is', () => {
    const told: string[] = [];
    fsck(deviceOf(CLEAN.image), { onProgress: (done, total) => told.push(`${done}/${total}`) });
    expect(told).toEqual(['1/6', '2/6', '3/6', '4/6', '5/6', '6/6']);
  });

  it('of sectors of 4096 bytes, and of an empty store', () => {
    const device = formatted(64, 4096);
    expect(fsck(device).verdict).toBe('clean');
    open(device).putAtomic('/state/a', bytes(9000));
    expect(fsck(device)).toMatchObject({ verdict: 'clean', check: { verifiedBytes: 9000, closed: false } });
  });
});

describe('residue of a power cut is clean', () => {
  it('a torn tail, in each of its forms', () => {
    const { image, places } = sample(false);
    const forms: Record<string, number[]> = {
      'never-committed': [places.last + 1],
      'torn-temp': [places.last],
    };
    for (const [row, sectors] of Object.entries(forms)) {
      const torn = image.slice();
      for (const sector of sectors) torn.fill(0, sector * 512, (sector + 1) * 512);
      const report = fsck(deviceOf(torn), { repair: true });
      expect(report).toMatchObject({ verdict: 'clean', repairs: [], check: { rows: { [row]: 1 } } });
      expect(kinds(report)).toEqual(['residue torn-tail']);
      expect(report.check.findings[0]).toMatchObject({ keys: ['/state/last'], sector: places.last });
    }
  });

  it('a torn payload', () => {
    const device = formatted(256);
    open(device).putAtomic('/state/extent', bytes(5000));
    device.write(128, new Uint8Array(512));
    expect(kinds(fsck(device))).toEqual(['residue torn-tail']);
    expect(fsck(device).check.rows).toEqual({ 'torn-payload': 1, end: 1 });
  });

  it('a superblock that is not the predecessor of the other', () => {
    // A format that was cut before its second copy.
    const old = deviceOf(CLEAN.image);
    const again = deviceOf(CLEAN.image);
    format(again, { storeId: new Uint8Array(16).fill(1) });
    const copy = new Uint8Array(512);
    again.read(0, copy);
    old.write(0, copy);
    const report = fsck(old);
    expect(report.verdict).toBe('clean');
    expect(kinds(report)).toEqual(['residue superblock-stale']);
  });
});

describe('damage, and what repair does', () => {
  it.each([0, 1] as const)('restores superblock copy %s, losing nothing', (copy) => {
    for (const close of [true, false]) {
      const { image, model } = sample(close);
      const device = deviceOf(image);
      device.write(copy * 8, new Uint8Array(512).fill(0x33));
      expect(fsck(device).verdict).toBe('repairable');
      const report = fsck(device, { repair: true });
      expect(report).toMatchObject({ verdict: 'repaired', repairs: ['restored the lost superblock copy'] });
      expect(report.after?.findings).toEqual([]);
      // Whichever copy is lost next.
      for (const next of [0, 8]) {
        const again = deviceOf(imageOf(device));
        again.write(next, new Uint8Array(512));
        const store = reopen(again);
        for (const [key, value] of model) expect(store.get(key)).toEqual(value);
      }
    }
  });

  it('a value in an extent: named with its frame, deleted on request, all else untouched', () => {
    const device = deviceOf(CLEAN.image);
    device.write(CLEAN.extentSector + 5, new Uint8Array(512));
    const before = fsck(device);
    expect(before).toMatchObject({ verdict: 'repairable', check: { verifiedValues: 5 } });
    expect(before.check.findings).toMatchObject([
      {
        kind: 'value-lost',
        keys: ['/state/extent'],
        what: `/state/extent: payload frame 1 of 2 at sector ${CLEAN.extentSector + 4} is damaged`,
        repair: 'delete-key',
      },
    ]);
    expect(before.check.findings[0]?.lost).toContain('2500 bytes');
    expect(fsck(device, { repair: true }).verdict).toBe('repaired');
    const store = reopen(device);
    expect(codeThrown(() => store.get('/state/extent'))).toBe('ENOENT');
    for (const [key, value] of CLEAN.model) if (key !== '/state/extent') expect(store.get(key)).toEqual(value);
  });

  it('a lost commit: the value is there, and is written anew', () => {
    const device = deviceOf(CLEAN.image);
    device.write(CLEAN.places.inline + 3, new Uint8Array(512));
    const report = fsck(device, { repair: true });
    expect(kinds(report)).toEqual(['damage group-damaged']);
    expect(report.check.findings[0]).toMatchObject({ repair: 'write-anew', lost: 'nothing', keys: ['/state/inline'] });
    expect(report).toMatchObject({ verdict: 'repaired', repairs: ['wrote /state/inline anew, as it was'] });
    expect(report.after?.findings).toMatchObject([{ severity: 'settled', kind: 'group-damaged' }]);
    const store = reopen(device);
    expect(store.get('/state/inline')).toEqual(CLEAN.model.get('/state/inline'));
    expect(store.stat('/state/inline').meta).toEqual(META);
  });

  it('a transaction with one temp frame lost: its key goes, the other is written anew', () => {
    const device = deviceOf(CLEAN.image);
    device.write(CLEAN.places.pair, new Uint8Array(512));
    const report = fsck(device, { repair: true });
    expect(kinds(report)).toEqual(['damage value-lost', 'damage group-damaged']);
    expect(report.repairs).toEqual(['deleted /state/one: its value is lost', 'wrote /state/two anew, as it was']);
    expect(report.verdict).toBe('repaired');
    expect(reopen(device).list()).toEqual([...CLEAN.model.keys()].filter((key) => key !== '/state/one').sort());
  });

  it('of what nothing live depends on is settled', () => {
    for (const place of [CLEAN.places.small, CLEAN.places.gone, CLEAN.places.deletion]) {
      const device = deviceOf(CLEAN.image);
      device.write(place, new Uint8Array(512));
      const report = fsck(device);
      expect(report.verdict).toBe('clean');
      expect(kinds(report)).toEqual(['settled group-damaged']);
    }
  });

  it('a group lost with its keys is beyond repair, and is not made to look whole', () => {
    const device = deviceOf(CLEAN.image);
    device.write(CLEAN.places.extent, new Uint8Array(2 * 512));
    const report = fsck(device, { repair: true });
    expect(report.verdict).toBe('beyond-repair');
    expect(kinds(report)).toEqual(['damage keys-unknown']);
    expect(Buffer.compare(imageOf(device).subarray(16 * 512), CLEAN.image.subarray(16 * 512, 30 * 512))).not.toBe(0);
    expect(codeThrown(() => reopen(device).list())).toBe('EINTEGRITY');
  });

  it('a medium that does not read throws no value away', () => {
    const inner = deviceOf(CLEAN.image);
    const device = new FailingDevice(inner);
    device.before = (kind, sector) => {
      if (kind === 'read' && sector === CLEAN.extentSector + 4) ioError();
    };
    const report = fsck(device, { repair: true });
    expect(report).toMatchObject({ verdict: 'beyond-repair', repairs: [] });
    expect(kinds(report)).toEqual(['damage value-unreadable']);
    expect(device.writes).toBe(0);
    expect(reopen(inner).get('/state/extent')).toEqual(CLEAN.model.get('/state/extent'));
  });

  it('repair writes over nothing that is committed', () => {
    // A superblock, a value, a commit: everything that repair does at once.
    const image = CLEAN.image.slice();
    image.fill(0, 8 * 512, 9 * 512);
    image.fill(0, (CLEAN.extentSector + 5) * 512, (CLEAN.extentSector + 6) * 512);
    image.fill(0, (CLEAN.places.inline + 3) * 512, (CLEAN.places.inline + 4) * 512);
    const device = deviceOf(image);
    const { check } = fsck(device);
    const tail = 16 + (check.space?.logBytes ?? 0) / 512;
    const written: number[] = [];
    const traced = new TracingDevice(device, ({ kind, sector, sectorCount }) => {
      if (kind === 'write') for (let i = 0; i < sectorCount; i++) written.push(sector + i);
    });
    expect(fsck(traced, { repair: true }).verdict).toBe('repaired');
    const inLog = written.filter((sector) => sector !== 0 && sector !== 8);
    expect(written.length).toBeGreaterThan(inLog.length);
    expect(Math.min(...inLog)).toBeGreaterThanOrEqual(tail);
    expect(Math.max(...inLog)).toBeLessThan(CLEAN.extentSector);
  });

  it('a full store is repaired as far as it can, and says what is not done', () => {
    const device = formatted(48);
    const store = open(device);
    store.putAtomic('/state/commit', bytes(3000), { meta: META });
    let filled = 0;
    while (codeThrown(() => store.putAtomic(`/state/${filled}`, bytes(10), { meta: META })) === 'none') filled++;
    store.close();
    expect(filled).toBeGreaterThan(0);
    device.write(17, new Uint8Array(512));
    const report = fsck(device, { repair: true });
    expect(report.verdict).toBe('beyond-repair');
    expect(report.repairs[0]).toMatch(/^not done, wrote \/state\/commit anew, as it was: the store is full/);
    expect(reopen(device).get('/state/commit')).toEqual(bytes(3000));
  });

  it('refuses to repair a read-only device', () => {
    const device = deviceOf(CLEAN.image);
    const readOnly = Object.create(device, { readOnly: { value: true } }) as BlockDevice;
    expect(codeThrown(() => fsck(readOnly, { repair: true }))).toBe('EROFS');
  });
});

describe('what no store can be opened on', () => {
  it.each([
    ['zeros', () => new Uint8Array(131_072), 'no-store', 'EINVAL'],
    ['ones', () => new Uint8Array(131_072).fill(255), 'no-store', 'EINVAL'],
    ['an image cut short', () => CLEAN.image.slice(0, 65_536), 'beyond-repair', 'EINTEGRITY'],
    ['both superblocks damaged', () => flipped(flipped(CLEAN.image, 100), 4196), 'beyond-repair', 'EINTEGRITY'],
  ] as const)('%s', (_name, image, verdict, code) => {
    const device = deviceOf(image());
    const before = imageOf(device);
    const report = fsck(device, { repair: true });
    expect(report).toMatchObject({ verdict, repairs: [], check: { findings: [{ kind: 'not-openable', code }] } });
    expect(Buffer.compare(imageOf(device), before)).toBe(0);
  });

  it('a wrong argument is a TypeError', () => {
    expect(() => fsck(deviceOf(CLEAN.image), null as never)).toThrow(TypeError);
  });
});

describe('one flipped bit, at each byte in turn', () => {
  const { image, model } = CLEAN;
  const keys = [...model.keys()].sort();

  /** Holds what fsck and the store say to each other and to the model. @returns the verdict */
  function wrongAnswers(device: BlockDevice, at: number, problems: string[]): string {
    const { verdict, check } = fsck(device);
    const store = reopen(device);
    const bad: string[] = [];
    for (const [key, value] of model) {
      try {
        if (Buffer.compare(store.get(key), value) !== 0) problems.push(`byte ${at}: ${key} has wrong bytes`);
      } catch (error) {
        if ((error as { code?: string }).code !== 'EINTEGRITY') throw error;
        bad.push(key);
      }
    }
    const named = check.findings.filter(({ kind }) => kind === 'value-lost').flatMap((finding) => finding.keys);
    if (named.join() !== bad.join()) problems.push(`byte ${at}: fsck names ${named}, and ${bad} do not read`);
    if (bad.length > 1) problems.push(`byte ${at}: ${bad} were lost by one bit`);
    if (store.list().join() !== keys.join()) problems.push(`byte ${at}: list gives ${store.list()}`);
    return verdict;
  }

  /** Bytes that something live depends on: superblocks, frames of live groups up to the end of their bodies. */
  function liveBytes(): Uint8Array {
    const { places } = CLEAN;
    const dead: [number, number][] = [
      [places.small, places.inline],
      [places.gone, places.again],
      [places.deletion, places.pair],
    ];
    const live = new Uint8Array(image.length).fill(1, 0, 512).fill(1, 8 * 512, 9 * 512);
    const codec = new FrameCodec(STORE_ID, 512);
    const header = new FrameHeader();
    for (let sector = 16; sector < 136; sector++) {
      if (!codec.parse(image, viewOf(image), sector * 512, sector, header)) continue;
      if (dead.some(([from, to]) => sector >= from && sector < to)) continue;
      live.fill(1, sector * 512, sector * 512 + 64 + header.bodyBytes);
    }
    return live;
  }

  it('is clean exactly where nothing live depends on it; what is lost is named, all else reads', () => {
    const live = liveBytes();
    const device = deviceOf(image);
    const sector = new Uint8Array(512);
    const problems: string[] = [];
    for (let at = 0; at < image.length; at++) {
      // Zeros that nothing depends on: free space, padding.
      if (live[at] === 0 && image[at] === 0 && at % 64 !== 13) continue;
      const first = at - (at % 512);
      const was = image.subarray(first, first + 512);
      sector.set(was);
      sector[at - first] = (sector[at - first] as number) ^ (1 << (at % 8));
      device.write(first / 512, sector);
      const verdict = at % 8 === 0 ? wrongAnswers(device, at, problems) : fsck(device).verdict;
      if (verdict !== (live[at] === 1 ? 'repairable' : 'clean')) problems.push(`byte ${at}: fsck says ${verdict}`);
      device.write(first / 512, was);
    }
    expect(problems).toEqual([]);
    expect(live.reduce((sum, byte) => sum + byte, 0)).toBeGreaterThan(5000);
  });
});

it('a reader without checksums is the one that the flipped bits are not shown by', () => {
  const device = deviceOf(flipped(CLEAN.image, CLEAN.extentSector * 512 + 200));
  expect(fsck(device, { rules: { ...soundRules, checksums: false } }).verdict).toBe('clean');
  expect(fsck(device).verdict).toBe('repairable');
});
