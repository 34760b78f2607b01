import { expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { Sfc32 } from '../../src/core/index.ts';
import { WriteLog } from '../../src/serve/disk/write-log.ts';

const SECTORS = 2000;
const SECTOR_BYTES = 512;

/** Writes until the log has more than one piece of its memory, and keeps what each sector should hold. */
function filled(log: WriteLog, seed: number): { newest: Map<number, Uint8Array>; depths: Map<number, number> } {
  const random = new Sfc32(seed);
  const newest = new Map<number, Uint8Array>();
  const depths = new Map<number, number>();
  while (log.size < 5000) {
    const sectorCount = 1 + random.below(90);
    const sector = random.below(SECTORS - sectorCount);
    const source = new Uint8Array(sectorCount * SECTOR_BYTES);
    random.fill(source);
    log.add(sector, source);
    for (let i = 0; i < sectorCount; i++) {
      newest.set(sector + i, source.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES));
      depths.set(sector + i, (depths.get(sector + i) ?? 0) + 1);
    }
  }
  return { newest, depths };
}

/** Everything that the log has, read as a device would. */
function contents(log: WriteLog): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  for (let sector = 0; sector < SECTORS; ) {
    const extent = log.extent(sector, SECTORS - sector);
    const bytes = new Uint8Array(Math.max(0, extent) * SECTOR_BYTES);
    if (extent > 0) log.read(sector, bytes);
    for (let i = 0; i < extent; i++) found.set(sector + i, bytes.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES));
    sector += Math.abs(extent);
  }
  return found;
}

/** One string a sector: quick to compare, and to read where they differ. */
function listed(map: Map<number, Uint8Array>): string[] {
  return [...map]
    .sort(([a], [b]) => a - b)
    .map(([sector, bytes]) => `${sector}: ${Buffer.from(bytes).toString('latin1')}`);
}

test('a log has the newest bytes of each sector, and how often it was written, again after it was emptied', () => {
  const log = new WriteLog(SECTOR_BYTES);
  for (const seed of [1, 2]) {
    const { newest, depths } = filled(log, seed);
    expect(listed(contents(log))).toEqual(listed(newest));
    const all = Array.from({ length: SECTORS }, (_, sector) => sector);
    expect(all.map((sector) => log.depth(sector))).toEqual(all.map((sector) => depths.get(sector) ?? 0));
    log.clear();
    expect(contents(log).size).toBe(0);
    expect(log.size).toBe(0);
  }
});

/** Counts what it is asked to write. */
class CountingMedium extends MemoryDevice {
  readonly writes: number[] = [];
  override write(sector: number, source: Uint8Array): void {
    this.writes.push(source.length / SECTOR_BYTES);
    super.write(sector, source);
  }
}

test('it writes the newest bytes of each sector out once, and what follows on in one piece', () => {
  const log = new WriteLog(SECTOR_BYTES);
  const { newest } = filled(log, 3);
  const medium = new CountingMedium({ sectorCount: SECTORS });
  log.writeTo(medium);
  const found = new Uint8Array(SECTOR_BYTES);
  for (const [sector, bytes] of newest) {
    medium.read(sector, found);
    expect(Buffer.compare(found, bytes), `sector ${sector}`).toBe(0);
  }
  expect(medium.writes.reduce((sum, each) => sum + each, 0)).toBe(newest.size);

  const pieces = new WriteLog(SECTOR_BYTES);
  for (let i = 0; i < 600; i++) pieces.add(100 + i * 3, new Uint8Array(3 * SECTOR_BYTES).fill(1));
  const second = new CountingMedium({ sectorCount: SECTORS });
  pieces.writeTo(second);
  // A mebibyte is one piece of memory.
  expect(second.writes).toEqual([1800]);
});

test('every write comes again in its order', () => {
  const log = new WriteLog(SECTOR_BYTES);
  const { newest } = filled(log, 4);
  const found = new Map<number, Uint8Array>();
  log.replay((sector, bytes) => {
    for (let i = 0; i < bytes.length / SECTOR_BYTES; i++)
      found.set(sector + i, bytes.slice(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES));
  });
  expect(listed(found)).toEqual(listed(newest));
});
