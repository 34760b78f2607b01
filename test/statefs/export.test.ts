import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { codeOf, toHex, VirtualClock } from '../../src/core/index.ts';
import { explore } from '../../src/explore/index.ts';
import {
  type ExportSummary,
  exportStore,
  format,
  importStore,
  open,
  readExport,
  type StateFs,
  type StateFsError,
} from '../../src/statefs/index.ts';
import { importScenario } from '../../src/testing/index.ts';
import { bytes, codeThrown, FailingDevice, formatted, ioError, reopen } from './helpers.ts';

const META = { subject: 'test', purpose: 'export', ts: 1_700_000_000_123 };

function joined(chunks: Iterable<Uint8Array>): Uint8Array {
  return new Uint8Array(Buffer.concat([...chunks].map((chunk) => chunk.slice())));
}

function exported(store: StateFs): Uint8Array {
  return joined(exportStore(store));
}

function inPieces(all: Uint8Array, size: number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < all.length; at += size) pieces.push(all.subarray(at, at + size));
  return pieces;
}

/** Three short values, one of them empty, and a long one. */
const CONTENT: readonly (readonly [string, number])[] = [
  ['/state/a', 30],
  ['/state/a/b', 0],
  ['/state/long', 2500],
  ['/state/\u{1f50b}', 3],
  ['/state/\uffe5', 4],
];

let made: Uint8Array | undefined;

function sample(): Uint8Array {
  made ??= makeSample();
  return made.slice();
}

function makeSample(): Uint8Array {
  const store = open(formatted());
  for (const [key, size] of CONTENT) store.put(key, bytes(size, size), { meta: META });
  return exported(store);
}

describe('an export', () => {
  it('is the same for the same contents, whatever their history and their disk', () => {
    const expected = sample();
    const other = new MemoryDevice({ sectorCount: 128, sectorBytes: 4096 });
    format(other);
    const store = open(other, { compaction: 'manual' });
    store.putAtomic('/state/gone', bytes(7));
    for (const [key, size] of [...CONTENT].reverse()) {
      store.putAtomic(key, bytes(9), { meta: META });
      store.putAtomic(key, bytes(size, size), { commit: 'ordered', meta: META });
      store.compact();
    }
    store.delete('/state/gone');
    store.close();
    expect(exported(reopen(other))).toEqual(expected);
    // Metadata is content.
    store.close();
    const later = reopen(other);
    later.putAtomic('/state/a', bytes(30, 30), { meta: { ...META, ts: META.ts + 1 } });
    expect(exported(later)).not.toEqual(expected);
  });

  it('has the bytes that the first version had', () => {
    // Magic, version 1, zeros; a record: 8 bytes of key, 77 of envelope, 30 of payload; the key; the envelope's start.
    expect(toHex(sample().slice(0, 41))).toBe(
      ['53464558504f5254', '0100000000000000', '010008004d0000001e000000', '2f73746174652f61', 'a56161'].join('') +
        toHex(sample().slice(39, 41)),
    );
    const { digest, ...rest } = summaryOf(readExport([sample()]));
    expect(rest).toEqual({ keys: 5, payloadBytes: 2537, bytes: sample().length });
    expect(toHex(digest)).toBe('9feddc7ade6935f6b826a8280206b3b437e5cf1a12fd4090a9f698c63fdb3fbb');
  });

  it('stands in the order of UTF-8, and shows a snapshot while the store goes on', () => {
    const keys = [...records(sample())].map(({ key }) => key);
    expect(keys).toEqual(['/state/a', '/state/a/b', '/state/long', '/state/\uffe5', '/state/\u{1f50b}']);
    const device = formatted();
    const store = open(device);
    for (const [key, size] of CONTENT) store.put(key, bytes(size, size), { meta: META });
    const chunks = exportStore(store.snapshot());
    const first = (chunks.next().value as Uint8Array).slice();
    store.putAtomic('/state/a', bytes(1));
    store.delete('/state/long');
    expect(joined([first, ...(chunks as Iterable<Uint8Array>)])).toEqual(sample());
  });

  it('ends at what is damaged, or leaves it out and says so', () => {
    const device = formatted();
    const store = open(device);
    for (const [key, size] of CONTENT) store.put(key, bytes(size, size), { meta: META });
    store.close();
    spoil(device, bytes(30, 30).subarray(0, 16));
    const damaged = reopen(device);
    expect(codeThrown(() => exported(damaged))).toBe('EINTEGRITY');
    const lost: string[] = [];
    const rest = joined(exportStore(damaged, { onLost: (key) => lost.push(key) }));
    expect(lost).toEqual(['/state/a']);
    expect([...records(rest)].map(({ key }) => key)).not.toContain('/state/a');
    expect([...records(rest)]).toHaveLength(4);
  });
});

/** Flips a bit where `marker` stands. */
function spoil(device: MemoryDevice, marker: Uint8Array): void {
  const sector = new Uint8Array(512);
  for (let at = 0; at < device.sectorCount; at++) {
    device.read(at, sector);
    const found = Buffer.from(sector).indexOf(marker);
    if (found < 0) continue;
    sector[found] = (sector[found] as number) ^ 1;
    device.write(at, sector);
    return;
  }
  throw new Error('the marker is nowhere');
}

function records(all: Uint8Array) {
  return readExport([all]) as Iterable<{ readonly key: string; readonly payload: Uint8Array }>;
}

function summaryOf(reading: Generator<unknown, ExportSummary>): ExportSummary {
  for (let next = reading.next(); ; next = reading.next()) if (next.done === true) return next.value;
}

describe('an import', () => {
  it.each([1, 7, 512, 100_000])('gives the store back from pieces of %i bytes', (size) => {
    const device = new MemoryDevice({ sectorCount: 64, sectorBytes: 4096 });
    const summary = importStore(device, inPieces(sample(), size), { clock: new VirtualClock() });
    expect(summary).toMatchObject({ keys: 5, payloadBytes: 2537 });
    const store = reopen(device);
    expect(store.stat('/state/long').meta).toEqual(META);
    expect(store.stats().damage).toEqual([]);
    expect(exported(store)).toEqual(sample());
  });

  it('of many values and of one that is longer than a transaction', () => {
    const store = open(formatted(40_960), { budgets: { payloadBytes: 6 << 20 } });
    for (let i = 0; i < 300; i++) store.put(`/state/many/${i}`, bytes(20, i), { meta: META });
    store.put('/state/longest', bytes(6 << 20), { meta: META });
    const device = new MemoryDevice({ sectorCount: 40_960 });
    importStore(device, exportStore(store));
    const again = open(device, { budgets: { payloadBytes: 6 << 20 } });
    expect(Buffer.compare(exported(again), exported(store))).toBe(0);
  });

  it('takes an empty store, too', () => {
    const device = new MemoryDevice({ sectorCount: 512 });
    expect(importStore(device, exportStore(open(formatted())))).toMatchObject({ keys: 0 });
    expect(reopen(device).list()).toEqual([]);
  });

  it('that does not fit, or whose device fails, leaves no store', () => {
    const small = new MemoryDevice({ sectorCount: 24 });
    expect(codeThrown(() => importStore(small, [sample()]))).toBe('EINVAL');
    const full = formatted(48);
    const store = open(formatted(4096));
    for (let i = 0; i < 40; i++) store.put(`/state/${i}`, bytes(900, i));
    expect(codeThrown(() => importStore(full, exportStore(store)))).toBe('ENOSPC');
    expect(codeThrown(() => open(full))).toBe('EINVAL');
    const failing = new FailingDevice(formatted());
    failing.before = (kind, sector) => (kind === 'write' && sector > 40 ? ioError() : undefined);
    expect(codeThrown(() => importStore(failing, [sample()]))).toBe('EIO');
    failing.before = () => undefined;
    expect(codeThrown(() => open(failing))).toBe('EINVAL');
  });

  it('of what is no export leaves the device as it was', () => {
    for (const [wrong, code] of [
      [new Uint8Array(0), 'EINTEGRITY'],
      [new Uint8Array(100), 'EINVAL'],
      [sample().map((byte, i) => (i === 8 ? 2 : byte)), 'EPROTO'],
    ] as const) {
      const device = formatted();
      open(device).putAtomic('/state/old', bytes(3));
      expect(codeThrown(() => importStore(device, [wrong]))).toBe(code);
      expect(reopen(device).get('/state/old')).toEqual(bytes(3));
    }
    expect(() => importStore(formatted(), [sample()], { storeId: new Uint8Array(3) })).toThrow(RangeError);
  });
});

describe('a damaged export', () => {
  const refuses = (all: Uint8Array): string => {
    const device = new MemoryDevice({ sectorCount: 512 });
    try {
      importStore(device, [all]);
      return 'taken';
    } catch (error) {
      if (codeThrown(() => open(device)) !== 'EINVAL') return 'a store is left';
      return codeOf(error) ?? (error as StateFsError).message;
    }
  };

  it('is refused whichever bit is flipped, wherever it ends, whatever follows it', () => {
    const all = sample();
    for (let at = 0; at < all.length; at++) {
      const wrong = all.slice();
      wrong[at] = (wrong[at] as number) ^ (1 << (at % 8));
      expect(
        codeThrown(() => summaryOf(readExport([wrong]))),
        `byte ${at}`,
      ).toMatch(/^(EINTEGRITY|EINVAL|EPROTO)$/);
      if (at % 50 === 0) expect(refuses(wrong), `byte ${at}`).toMatch(/^(EINTEGRITY|EINVAL|EPROTO)$/);
    }
    for (let length = 0; length < all.length; length += 97) {
      expect(refuses(all.subarray(0, length)), `${length} bytes`).toBe('EINTEGRITY');
    }
    expect(refuses(joined([all, new Uint8Array(1)]))).toBe('EINTEGRITY');
  });

  it('allocates nothing for a lie, and takes nothing twice or out of order', () => {
    const head = sample().subarray(0, 28);
    const lie = head.slice();
    new DataView(lie.buffer).setUint32(24, 0xffff_ffff, true);
    expect(refuses(lie)).toBe('EINTEGRITY');
    const store = open(formatted());
    store.put('/state/a', bytes(3), { meta: META });
    const one = exported(store);
    const record = one.subarray(16, one.length - 52);
    expect(refuses(joined([one.subarray(0, 16), record, record, one.subarray(one.length - 52)]))).toBe('EINTEGRITY');
  });

  test('arbitrary bytes are refused with a code', () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.nat({ max: 200 }).map((at) => sample().subarray(at, at + 60)),
      fc.constant(sample().subarray(0, 16)),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        expect(refuses(joined(pieces))).toMatch(/^(EINTEGRITY|EINVAL|EPROTO)$/);
      }),
      { numRuns: 200 },
    );
  });
});

describe('a cut during an import', () => {
  it('leaves no store, or a whole one', () => {
    const result = explore(importScenario(), { depth: 2 });
    expect(result).toMatchObject({ complete: true, clean: true, violations: [] });
    expect(result.images).toBeGreaterThan(500n);
  });

  it('is noticed where a part of it can be seen', () => {
    expect(explore(importScenario({ broken: 'import-early' })).clean).toBe(false);
  });
});
