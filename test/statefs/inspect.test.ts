import { describe, expect, it } from 'vitest';
import { inspect, open } from '../../src/statefs/index.ts';
import { bytes, codeThrown, FailingDevice, formatted, imageOf, ioError } from './helpers.ts';

const digits = /^[0-9a-f]{64}$/;

/** A put, an ordered put of three sectors, an extent, a deletion, a transaction; the store stays open. */
function sampleDevice() {
  const device = formatted(256);
  let store = open(device);
  store.putAtomic('/state/small', bytes(20));
  store.putAtomic('/state/inline', bytes(1200), { commit: 'ordered' });
  store.putAtomic('/state/extent', bytes(5000));
  store = open(device);
  store.delete('/state/small');
  store.transaction((tx) => {
    tx.put('/state/one', bytes(3));
    tx.put('/state/two', bytes(4));
  });
  return device;
}

describe('inspect', () => {
  it('shows both superblocks, and every frame of the log in order', () => {
    const device = sampleDevice();
    const before = imageOf(device);
    const found = inspect(device);
    expect(found).toMatchObject({
      sectorBytes: 512,
      sectorCount: 256,
      unitSectors: 1,
      regionSectors: [16, 136],
      regionSectorCount: 120,
      activeRegion: 0,
      logSector: 16,
      tailSector: 29,
      payloadFloor: 125,
      keys: 4,
      lastSequence: 5,
    });
    expect(found.superblocks).toMatchObject([
      { copy: 0, state: 'valid', inUse: false, fields: { generation: 3, storeId: '5a'.repeat(16) } },
      { copy: 1, state: 'valid', inUse: true, fields: { generation: 4, epoch: 4, frontierSector: 24 } },
    ]);
    const frames = found.groups.flatMap((group) => group.frames);
    expect(frames.map(({ sector, sectorCount, type, index }) => [sector, sectorCount, type, index])).toEqual([
      [16, 1, 'temp', 0],
      [17, 1, 'commit', 0],
      [18, 3, 'temp', 0],
      [21, 1, 'commit', 0],
      [22, 1, 'temp', 0],
      [23, 1, 'commit', 0],
      [24, 1, 'temp', 0],
      [25, 1, 'commit', 0],
      [26, 1, 'temp', 0],
      [27, 1, 'temp', 1],
      [28, 1, 'commit', 0],
    ]);
    expect(frames.every(({ body }) => body === 'whole')).toBe(true);
    expect(found.groups.every(({ blankSectors }) => blankSectors.length === 0)).toBe(true);
    expect(found.groups.map(({ row, inEffect, epoch }) => [row, inEffect, epoch])).toEqual([
      ['committed', true, 3],
      ['committed', true, 3],
      ['committed', true, 3],
      ['committed', true, 4],
      ['committed-tail', true, 4],
    ]);
    expect(frames[3]).toMatchObject({ ordered: true, last: true, moved: false, sequence: 2, durableSequence: 1 });
    expect(frames[4]?.operations).toMatchObject([
      { kind: 'put', key: '/state/extent', payloadBytes: 5000, extentSector: 125, extentFrames: 3, digest: undefined },
    ]);
    expect(frames[10]?.operations).toMatchObject([
      { key: '/state/one', digest: expect.stringMatching(digits) },
      { key: '/state/two', digest: expect.stringMatching(digits) },
    ]);
    expect(frames[7]?.operations).toMatchObject([{ kind: 'delete', key: '/state/small', digest: undefined }]);
    expect(Buffer.compare(imageOf(device), before)).toBe(0);
  });

  it('shows the frames of a commit that takes several, and the feature that it needs', () => {
    const device = formatted(512);
    const store = open(device);
    store.transaction((tx) => {
      for (let i = 0; i < 7; i++) tx.put(`/state/${i}/${'k'.repeat(240)}`, bytes(1));
    });
    store.close();
    const { groups, superblocks } = inspect(device);
    const commits = groups[0]?.frames.filter(({ type }) => type === 'commit') ?? [];
    expect(commits.map(({ index, last, sectorCount }) => [index, last, sectorCount])).toEqual([
      [0, false, 4],
      [1, true, 1],
    ]);
    expect(commits.flatMap(({ operations }) => operations)).toHaveLength(7);
    expect(superblocks.find(({ inUse }) => inUse)?.fields).toMatchObject({ features: 2, clean: true });
  });

  it('shows what is damaged and what is torn for what it is', () => {
    const device = sampleDevice();
    device.write(19, new Uint8Array(512));
    device.write(28, new Uint8Array(512));
    const { groups, tailSector } = inspect(device);
    expect(groups.map(({ row }) => row)).toEqual([
      'committed',
      'temp-lost',
      'committed',
      'committed',
      'never-committed',
    ]);
    expect(groups[1]?.frames).toMatchObject([
      { sector: 18, sectorCount: 1, body: 'damaged', operations: [] },
      { sector: 21, body: 'whole' },
    ]);
    expect(groups[1]?.blankSectors).toEqual([19, 20]);
    expect(groups[4]).toMatchObject({ inEffect: false, blankSectors: [28] });
    expect(tailSector).toBe(26);
  });

  it('shows what the medium does not give as blank, and what is no store as an error with a code', () => {
    const device = new FailingDevice(sampleDevice());
    device.before = (kind, sector) => {
      if (kind === 'read' && sector === 16) ioError();
    };
    const [group] = inspect(device).groups;
    expect(group).toMatchObject({ row: 'temp-lost', blankSectors: [16] });
    expect(codeThrown(() => inspect(formatted(64)))).toBe('none');
    device.before = (_kind, sector) => {
      if (sector === 0 || sector === 8) ioError();
    };
    expect(codeThrown(() => inspect(device))).toBe('EIO');
  });

  it('an empty log has no groups', () => {
    expect(inspect(formatted(64))).toMatchObject({ groups: [], keys: 0, tailSector: 16 });
  });
});
