import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { codeOf, toHex, VirtualClock } from '../../src/core/index.ts';
import { encode, MAX_ENVELOPE_BYTES, sha256, wrap } from '../../src/envelope/index.ts';
import { explore } from '../../src/explore/index.ts';
import {
  type ExportSummary,
  exportStore,
  format,
  importStore,
  inspect,
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

describe('an export that lies under a good SHA-256', () => {
  const HEADER = sample().subarray(0, 16);

  interface Lengths {
    readonly kind?: number;
    readonly zero?: number;
    readonly key?: number;
    readonly envelope?: number;
    readonly payload?: number;
  }

  /** The head of an entry. */
  function head({ kind = 1, zero = 0, key = 0, envelope = 0, payload = 0 }: Lengths): Uint8Array {
    const bytesOf = new Uint8Array(12);
    const view = new DataView(bytesOf.buffer);
    bytesOf.set([kind, zero]);
    view.setUint16(2, key, true);
    view.setUint32(4, envelope, true);
    view.setUint32(8, payload, true);
    return bytesOf;
  }

  function record(key: string, payload: Uint8Array, told: Uint8Array = payload): Uint8Array {
    const name = new TextEncoder().encode(key);
    const envelope = encode(wrap(told, META));
    return joined([
      head({ key: name.length, envelope: envelope.length, payload: payload.length }),
      name,
      envelope,
      payload,
    ]);
  }

  function sealed(
    header: Uint8Array,
    entries: readonly Uint8Array[],
    count = entries.length,
    end: Lengths = {},
  ): Uint8Array {
    const number = new Uint8Array(8);
    new DataView(number.buffer).setBigUint64(0, BigInt(count), true);
    const all = joined([header, ...entries, head({ kind: 2, ...end }), number]);
    return joined([all, sha256(all)]);
  }

  const reading = (all: Uint8Array): string => {
    try {
      return `${summaryOf(readExport([all])).keys} keys`;
    } catch (error) {
      return `${codeOf(error)} ${(error as Error).message.replace('the export is damaged at ', '').replace(': export the store again', '')}`;
    }
  };
  const a = record('/state/a', bytes(3));
  const b = record('/state/b', bytes(4));

  it.each<[string, Uint8Array, string]>([
    ['nothing', sealed(HEADER, [a, b]), '2 keys'],
    [
      'the number of records',
      sealed(HEADER, [a, b], 3),
      `EINTEGRITY byte ${16 + a.length + b.length + 20}: expected 3 records, got 2`,
    ],
    [
      'the order of keys',
      sealed(HEADER, [b, a]),
      `EINTEGRITY byte ${16 + b.length}: /state/a does not come after the key before`,
    ],
    [
      'a key that comes twice',
      sealed(HEADER, [a, a]),
      `EINTEGRITY byte ${16 + a.length}: /state/a does not come after the key before`,
    ],
    [
      'a key that no store has',
      sealed(HEADER, [record('/other', bytes(3))]),
      'EINTEGRITY byte 16: its key is none that a store would take',
    ],
    ['no key', sealed(HEADER, [head({})]), 'EINTEGRITY byte 16: its key is none that a store would take'],
    [
      'the bytes of a payload',
      sealed(HEADER, [record('/state/a', bytes(3), bytes(3, 2))]),
      'EINTEGRITY byte 16: the payload of /state/a does not match its envelope',
    ],
    [
      'the length of a payload',
      sealed(HEADER, [record('/state/a', bytes(3), bytes(4))]),
      'EINTEGRITY byte 16: the payload of /state/a does not match its envelope',
    ],
    [
      'a byte that is zero',
      sealed(HEADER, [a.map((byte, i) => (i === 1 ? 1 : byte))]),
      'EINTEGRITY byte 16: the head of its entry is not all zero',
    ],
    [
      'a byte of the end that is zero',
      sealed(HEADER, [], 0, { zero: 1 }),
      'EINTEGRITY byte 16: the head of its entry is not all zero',
    ],
    ['a kind', sealed(HEADER, [a.map((byte, i) => (i === 0 ? 3 : byte))]), 'EINTEGRITY byte 16: an entry of kind 3'],
    ['an end with a key', sealed(HEADER, [], 0, { key: 1 }), 'EINTEGRITY byte 16: an entry of kind 2'],
    ['an end with an envelope', sealed(HEADER, [], 0, { envelope: 1 }), 'EINTEGRITY byte 16: an entry of kind 2'],
    ['an end with a payload', sealed(HEADER, [], 0, { payload: 1 }), 'EINTEGRITY byte 16: an entry of kind 2'],
    [
      'the envelope',
      sealed(HEADER, [head({ key: 8, envelope: 1 }), new TextEncoder().encode('/state/a'), new Uint8Array(1)]),
      'EINTEGRITY byte 16: the envelope of /state/a: ',
    ],
    [
      'a key of 256 bytes',
      joined([HEADER, head({ key: 256 })]),
      'EINTEGRITY byte 16: no record has 256 bytes of key, 0 of envelope and 0 of payload',
    ],
    ['a key of 255 bytes', joined([HEADER, head({ key: 255 })]), 'EINTEGRITY byte 28: it ends within a key'],
    [
      'an envelope that is too long',
      joined([HEADER, head({ envelope: MAX_ENVELOPE_BYTES + 1 })]),
      `EINTEGRITY byte 16: no record has 0 bytes of key, ${MAX_ENVELOPE_BYTES + 1} of envelope and 0 of payload`,
    ],
    [
      'an envelope as long as it can be',
      joined([HEADER, head({ key: 8, envelope: MAX_ENVELOPE_BYTES }), new TextEncoder().encode('/state/a')]),
      'EINTEGRITY byte 36: it ends within an envelope',
    ],
    [
      'a payload that is too long',
      joined([HEADER, head({ payload: (64 << 20) + 1 })]),
      'EINTEGRITY byte 16: no record has 0 bytes of key, 0 of envelope and 67108865 of payload',
    ],
    [
      'a payload as long as it can be',
      joined([HEADER, head({ key: 8, payload: 64 << 20 })]),
      'EINTEGRITY byte 28: it ends within a key',
    ],
    [
      'its SHA-256',
      sealed(HEADER, [a]).map((byte, i, all) => (i === all.length - 1 ? byte ^ 1 : byte)),
      `EINTEGRITY byte ${16 + a.length + 52}: its SHA-256 does not match`,
    ],
    [
      'where it ends',
      joined([sealed(HEADER, [a]), new Uint8Array(1)]),
      `EINTEGRITY byte ${16 + a.length + 52}: something follows behind its end`,
    ],
  ])('about %s is told by what it is', (_name, all, expected) => {
    expect(reading(all).slice(0, expected.length)).toBe(expected);
  });

  it('in any byte of its header that is zero', () => {
    for (let at = 10; at < 16; at++) {
      expect(
        reading(
          sealed(
            HEADER.map((byte, i) => (i === at ? 1 : byte)),
            [a],
          ),
        ),
      ).toBe('EINTEGRITY byte 10: its header is not all zero');
    }
  });

  it('about what it holds ends where it is cut, whatever its pieces', () => {
    const all = sealed(HEADER, [a, b]);
    for (let length = 0; length < all.length; length++) {
      for (const size of [1, 7, 1000]) {
        const cut = (): unknown => summaryOf(readExport(inPieces(all.subarray(0, length), size)));
        expect(cut).toThrow(new RegExp(`damaged at byte ${length}: it ends within `));
      }
    }
  });

  it('a device that fails while it is read is EIO, and a defect stays one', () => {
    const failing = (thrown: () => never): (() => unknown) => {
      function* pieces(): Generator<Uint8Array> {
        yield HEADER;
        thrown();
      }
      return () => summaryOf(readExport(pieces()));
    };
    expect(codeThrown(failing(ioError))).toBe('EIO');
    expect(
      failing(() => {
        throw new RangeError('a defect');
      }),
    ).toThrow(RangeError);
    const told: string[] = [];
    const inner = formatted();
    open(inner).putAtomic('/state/a', bytes(3));
    const device = new FailingDevice(inner);
    const store = reopen(device);
    device.before = () => ioError();
    expect(codeThrown(() => joined(exportStore(store, { onLost: (key) => told.push(key) })))).toBe('EIO');
    expect(told).toEqual([]);
  });

  it('comes to the same whether it is written or read, in no empty piece', () => {
    const store = open(formatted());
    for (const [key, size] of CONTENT) store.put(key, bytes(size, size), { meta: META });
    const writing = exportStore(store);
    const pieces: Uint8Array[] = [];
    let next = writing.next();
    for (; next.done !== true; next = writing.next()) pieces.push(next.value.slice());
    expect(pieces.every(({ length }) => length > 0)).toBe(true);
    expect(next.value).toEqual(summaryOf(readExport(pieces)));
    expect(next.value).toMatchObject({ keys: 5, payloadBytes: 2537, bytes: sample().length });
  });
});

describe('what an import makes', () => {
  const imported = (values: readonly number[], options: Parameters<typeof importStore>[2] = {}) => {
    const store = open(formatted(16_384), { budgets: { payloadBytes: 2 << 20 } });
    for (const [i, size] of values.entries()) {
      store.put(`/state/${String(i).padStart(4, '0')}`, bytes(size, i), { meta: META });
    }
    const device = new FailingDevice(new MemoryDevice({ sectorCount: 16_384 }));
    importStore(device, exportStore(store), options);
    const { flushes } = device;
    const shown = inspect(device);
    return {
      shown,
      flushes,
      counts: shown.groups.map(({ frames }) => frames.filter(({ type }) => type === 'temp').length),
    };
  };
  const MIB = 1 << 20;

  it('is closed, and what was asked for', () => {
    const { shown } = imported([3], { storeId: new Uint8Array(16).fill(7), unitBytes: 4096 });
    expect(shown.superblocks.find(({ inUse }) => inUse)?.fields).toMatchObject({
      storeId: '07'.repeat(16),
      unitBytes: 4096,
      clean: true,
    });
  });

  it('reads the clock that it was given', () => {
    let asked = 0;
    const clock = { monotonicMs: () => asked++, wallMs: () => 0 };
    imported([3], { clock });
    expect(asked).toBeGreaterThan(0);
  });

  it('stands in groups of 64 values, or of a mebibyte', () => {
    expect(imported(new Array<number>(130).fill(3)).counts).toEqual([64, 64, 2]);
    expect(imported([MIB / 2, MIB / 2, 1]).counts).toEqual([2, 1]);
    expect(imported([MIB / 2, MIB / 2 + 1, 1]).counts).toEqual([1, 2]);
    expect(imported([1, MIB, 1]).counts).toEqual([1, 1, 1]);
    expect(imported([]).counts).toEqual([]);
  });

  it('is flushed for its frontiers and its end, not for each group', () => {
    const one = imported([1, 1]);
    const two = imported([1, 1, MIB - 1, 1]);
    expect([one.counts, two.counts]).toEqual([[2], [2, 2]]);
    expect(two.flushes).toBe(one.flushes);
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
