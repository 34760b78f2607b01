import { beforeEach, describe, expect, it } from 'vitest';
import { DeviceError } from '../../src/core/index.ts';
import {
  BLK_F_CONFIG_WCE,
  BLK_F_DISCARD,
  BLK_F_FLUSH,
  BLK_F_LIFETIME,
  BLK_F_RO,
  BLK_F_SECURE_ERASE,
  BLK_F_WRITE_ZEROES,
  BLK_S_IOERR,
  BLK_S_OK,
  BLK_S_UNSUPP,
  BLK_T_DISCARD,
  BLK_T_FLUSH,
  BLK_T_GET_ID,
  BLK_T_GET_LIFETIME,
  BLK_T_IN,
  BLK_T_OUT,
  BLK_T_SECURE_ERASE,
  BLK_T_WRITE_ZEROES,
  CONFIG,
  CONFIG_BYTES,
  hasFeature,
  INTERRUPT_CONFIG,
  REG_CONFIG,
  REG_INTERRUPT_STATUS,
} from '../../src/virtio/index.ts';
import { RINGS, type RingKind } from './guest-queue.ts';
import { type Answer, Guest, type GuestOptions, header, LoggingDevice, type Part, pattern, range } from './harness.ts';

/** Of the format that is under test. */
let ring: RingKind = 'split';

function make(options: GuestOptions = {}): Guest {
  return new Guest({ ring, ...options });
}

function guestOn(backend: LoggingDevice, features?: readonly number[]): Guest {
  return make({ backend }).up(features);
}

function config32(guest: Guest, offset: number): number {
  return guest.transport.read(REG_CONFIG + offset, 4);
}

function config8(guest: Guest, offset: number): number {
  return guest.transport.read(REG_CONFIG + offset, 1);
}

function write(guest: Guest, unit: number | bigint, data: Uint8Array): Answer {
  return guest.send([{ give: header(BLK_T_OUT, unit) }, { give: data }, { room: 1 }]);
}

function ranges(guest: Guest, type: number, ...list: readonly Uint8Array[]): Answer {
  return guest.send([{ give: header(type) }, { give: Buffer.concat(list) }, { room: 1 }]);
}

describe.each(RINGS)('virtio block device on a %s ring', (kind) => {
  beforeEach(() => {
    ring = kind;
  });

  it('checklist 37, virtio 5.2.5.2: FLUSH is offered, but over a cache that cannot be flushed', () => {
    const offers = (features: object) => hasFeature(guestOn(new LoggingDevice({ features })).offered, BLK_F_FLUSH);
    expect(offers({})).toBe(true);
    expect(offers({ flush: false, writeCache: false })).toBe(true);
    expect(offers({ flush: false, writeCache: true })).toBe(false);
  });

  it('checklist 38, virtio 5.2.5.2: CONFIG_WCE comes with FLUSH', () => {
    const { offered } = make();
    expect(hasFeature(offered, BLK_F_CONFIG_WCE)).toBe(true);
    expect(hasFeature(offered, BLK_F_FLUSH)).toBe(true);
  });

  it('checklist 39, virtio 5.2.5.2: CONFIG_WCE without FLUSH negotiated: writeback is 0, and stays so', () => {
    const guest = guestOn(new LoggingDevice(), [BLK_F_CONFIG_WCE]);
    expect(config8(guest, CONFIG.writeback)).toBe(0);
    guest.transport.write(REG_CONFIG + CONFIG.writeback, 1, 1);
    expect(config8(guest, CONFIG.writeback)).toBe(0);
  });

  it('checklist 40, virtio 5.2.5.2: padding, and fields of features that are not offered, are zero', () => {
    const guest = make();
    expect(config8(guest, CONFIG.unused0)).toBe(0);
    for (let i = CONFIG.unused1; i < CONFIG_BYTES; i++) expect(config8(guest, i)).toBe(0);
    expect(guest.transport.read(REG_CONFIG + CONFIG.numQueues, 2)).toBe(0);
    expect(config32(guest, CONFIG.geometry)).toBe(0);
    const bare = make({ device: { withhold: [1, 2, 6, 9, 10, 11, 13, 14] } });
    for (let i = 8; i < CONFIG_BYTES; i++) expect(config8(bare, i)).toBe(0);
  });

  it('checklist 41, virtio 5.2.6.2: a write to a read-only device is IOERR, and nothing is written', () => {
    const backend = new LoggingDevice({ readOnly: true });
    const guest = guestOn(backend);
    expect(hasFeature(guest.offered, BLK_F_RO)).toBe(true);
    // Accepting the bit or not makes no difference.
    for (const features of [undefined, [], [BLK_F_RO]]) {
      guest.up(features);
      expect(write(guest, 0, pattern(512, 1)).status).toBe(BLK_S_IOERR);
      expect(ranges(guest, BLK_T_WRITE_ZEROES, range(0, 1)).status).toBe(BLK_S_IOERR);
      expect(ranges(guest, BLK_T_DISCARD, range(0, 1)).status).toBe(BLK_S_IOERR);
    }
    expect(backend.take()).toEqual([]);
  });

  it.each([
    ['a discard with a reserved flag', BLK_T_DISCARD, 2],
    ['a discard with the last reserved flag', BLK_T_DISCARD, 0x8000_0000],
    ['a write zeroes with a reserved flag', BLK_T_WRITE_ZEROES, 2],
    ['a write zeroes with unmap and a reserved flag', BLK_T_WRITE_ZEROES, 3],
    ['a write zeroes with every flag', BLK_T_WRITE_ZEROES, 0xffff_ffff],
  ])('checklist 42, virtio 5.2.6.2: %s is UNSUPP, in any segment', (_name, type, flags) => {
    const backend = new LoggingDevice();
    const guest = guestOn(backend);
    expect(ranges(guest, type, range(0, 1, flags)).status).toBe(BLK_S_UNSUPP);
    expect(ranges(guest, type, range(0, 1), range(1, 1, flags)).status).toBe(BLK_S_UNSUPP);
    // Even beside what is wrong otherwise; and no segment was carried out.
    expect(ranges(guest, type, range(9999, 1), range(1, 1, flags)).status).toBe(BLK_S_UNSUPP);
    expect(backend.take()).toEqual([]);
  });

  it('checklist 43, virtio 5.2.6.2: a discard with the unmap flag is UNSUPP', () => {
    const backend = new LoggingDevice();
    expect(ranges(guestOn(backend), BLK_T_DISCARD, range(0, 1, 1)).status).toBe(BLK_S_UNSUPP);
    expect(backend.take()).toEqual([]);
  });

  it.each([0, 1])('checklist 44, virtio 5.2.6.2: sectors that were write-zeroed read as zero (unmap %d)', (unmap) => {
    const backend = new LoggingDevice();
    const guest = guestOn(backend);
    backend.disk.write(0, pattern(512 * 8, 1));
    expect(ranges(guest, BLK_T_WRITE_ZEROES, range(1, 2, unmap), range(5, 1, unmap)).status).toBe(BLK_S_OK);
    const answer = guest.send([{ give: header(BLK_T_IN) }, { room: 512 * 8 + 1 }]);
    const expected = pattern(512 * 8, 1)
      .fill(0, 512, 1536)
      .fill(0, 2560, 3072);
    expect(answer.written.subarray(0, -1)).toEqual(expected);
    expect(backend.take().slice(0, 2)).toEqual(unmap ? ['zero 1+2 unmap', 'zero 5+1 unmap'] : ['zero 1+2', 'zero 5+1']);
  });

  it('checklist 45, virtio 5.2.6.2: write_zeroes_may_unmap says whether the backend can deallocate', () => {
    const mayUnmap = (discard: boolean) =>
      config8(guestOn(new LoggingDevice({ features: { discard } })), CONFIG.writeZeroesMayUnmap);
    expect(mayUnmap(true)).toBe(1);
    expect(mayUnmap(false)).toBe(0);
  });

  it('checklist 46, virtio 5.2.6.2: a change of capacity is signalled', () => {
    const backend = new LoggingDevice({ sectorCount: 64 });
    const guest = guestOn(backend);
    backend.sectorCount = 32;
    guest.device.backendChanged();
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(INTERRUPT_CONFIG);
    expect(config32(guest, CONFIG.capacity)).toBe(32);
    expect(write(guest, 32, pattern(512, 1)).status).toBe(BLK_S_IOERR);
  });

  it('checklist 46, virtio 5.2.6.2: a change of write_zeroes_may_unmap is signalled', () => {
    const backend = new LoggingDevice();
    const guest = guestOn(backend);
    backend.features = { ...backend.features, discard: false };
    guest.device.backendChanged();
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(INTERRUPT_CONFIG);
    expect(config8(guest, CONFIG.writeZeroesMayUnmap)).toBe(0);
  });

  const THROUGH: readonly [string, readonly number[], number | undefined][] = [
    ['neither FLUSH nor CONFIG_WCE negotiated', [], undefined],
    ['CONFIG_WCE without FLUSH', [BLK_F_CONFIG_WCE], undefined],
    ['writeback set to 0', [BLK_F_CONFIG_WCE, BLK_F_FLUSH], 0],
  ];
  it.each(THROUGH)(
    'checklist 47, virtio 5.2.6.2: %s: a write is durable before its status',
    (_name, bits, writeback) => {
      const withZeroes = [...bits, BLK_F_WRITE_ZEROES];
      for (const fua of [true, false]) {
        const backend = new LoggingDevice({ features: { fua } });
        const guest = guestOn(backend, withZeroes);
        if (writeback !== undefined) guest.transport.write(REG_CONFIG + CONFIG.writeback, 1, writeback);
        expect(write(guest, 2, pattern(512, 1)).status).toBe(BLK_S_OK);
        expect(backend.take()).toEqual(fua ? ['write 2+1 fua'] : ['write 2+1', 'flush']);
        ranges(guest, BLK_T_WRITE_ZEROES, range(2, 1));
        expect(backend.take()).toEqual(['zero 2+1', 'flush']);
      }
    },
  );

  it('checklist 47, virtio 5.2.6.2: in write-back mode a write stays volatile, and a flush flushes', () => {
    const backend = new LoggingDevice();
    for (const features of [undefined, [BLK_F_FLUSH]]) {
      const guest = guestOn(backend, features);
      write(guest, 2, pattern(512, 1));
      expect(backend.take()).toEqual(['write 2+1']);
      expect(guest.send([{ give: header(BLK_T_FLUSH) }, { room: 1 }]).status).toBe(BLK_S_OK);
      expect(backend.take()).toEqual(['flush']);
    }
  });

  it('checklist 47: a write-through whose flush fails is IOERR, and so is a failed flush', () => {
    const backend = new LoggingDevice({ features: { fua: false } });
    const guest = guestOn(backend, [BLK_F_FLUSH]);
    backend.failure = new DeviceError('EIO', 'no');
    expect(guest.send([{ give: header(BLK_T_FLUSH) }, { room: 1 }]).status).toBe(BLK_S_IOERR);
    const through = guestOn(backend, []);
    backend.take();
    const original = backend.flush.bind(backend);
    backend.flush = () => {
      backend.failure = new DeviceError('EIO', 'no');
      original();
    };
    expect(write(through, 2, pattern(512, 1)).status).toBe(BLK_S_IOERR);
    expect(backend.take()).toEqual(['write 2+1', 'flush']);
  });

  it('checklist 48, virtio 5.2.6.2: LIFETIME is offered where there is such a metric, and answers with it', () => {
    const lifetime: Part[] = [{ give: header(BLK_T_GET_LIFETIME) }, { room: 7 }];
    const without = guestOn(new LoggingDevice());
    expect(hasFeature(without.offered, BLK_F_LIFETIME)).toBe(false);
    expect(without.send(lifetime).status).toBe(BLK_S_UNSUPP);
    const guest = make({ device: { lifetime: () => ({ preEol: 3, typA: 11, typB: 2 }) } }).up();
    expect(hasFeature(guest.offered, BLK_F_LIFETIME)).toBe(true);
    expect(guest.send(lifetime)).toEqual({
      status: BLK_S_OK,
      usedLength: 7,
      written: Uint8Array.of(3, 0, 11, 0, 2, 0, BLK_S_OK),
    });
    for (const room of [6, 8]) {
      expect(guest.send([{ give: header(BLK_T_GET_LIFETIME) }, { room }]).status).toBe(BLK_S_IOERR);
    }
  });

  it.each([{ preEol: 4 }, { typA: 12 }, { typB: 0xffff }, { typA: -1 }])(
    'checklist 49, virtio 5.2.6.2: no reserved lifetime value is sent (%j)',
    (wrong) => {
      const guest = make({ device: { lifetime: () => ({ preEol: 0, typA: 0, typB: 0, ...wrong }) } }).up();
      const { rooms } = guest.offer([{ give: header(BLK_T_GET_LIFETIME) }, { room: 7 }]);
      guest.notify();
      // A defect of who made the device: it halts, and says so.
      expect(guest.transport.halted?.error).toBeInstanceOf(RangeError);
      expect(rooms[0]).toEqual(new Uint8Array(7).fill(0xee));
    },
  );

  it('virtio 5.2.6: a secure erase, where it is offered, zeroes and is durable before its status', () => {
    expect(hasFeature(make().offered, BLK_F_SECURE_ERASE)).toBe(false);
    const backend = new LoggingDevice();
    const guest = make({ backend, device: { secureErase: true, rangeUnitsMax: 8, rangeCountMax: 2 } }).up();
    expect(ranges(guest, BLK_T_SECURE_ERASE, range(1, 2), range(9, 8)).status).toBe(BLK_S_OK);
    expect(backend.take()).toEqual(['zero 1+2', 'zero 9+8', 'flush']);
    const limits = [CONFIG.maxSecureEraseSectors, CONFIG.maxSecureEraseSeg, CONFIG.secureEraseSectorAlignment];
    expect(limits.map((offset) => config32(guest, offset))).toEqual([8, 2, 1]);
    expect(ranges(guest, BLK_T_SECURE_ERASE, range(1, 9)).status).toBe(BLK_S_IOERR);
    expect(ranges(guest, BLK_T_SECURE_ERASE, range(1, 1), range(2, 1), range(3, 1)).status).toBe(BLK_S_IOERR);
    expect(ranges(guest, BLK_T_SECURE_ERASE, range(64, 1)).status).toBe(BLK_S_IOERR);
    const readOnly = make({ backend: new LoggingDevice({ readOnly: true }), device: { secureErase: true } });
    expect(hasFeature(readOnly.offered, BLK_F_SECURE_ERASE)).toBe(false);
    expect(backend.take()).toEqual([]);
  });

  it.each([1, 2, 0x8000_0000])('checklist 42, virtio 5.2.6.2: a secure erase with flag %d is UNSUPP', (flag) => {
    const backend = new LoggingDevice();
    const guest = make({ backend, device: { secureErase: true } }).up();
    expect(ranges(guest, BLK_T_SECURE_ERASE, range(0, 1, flag)).status).toBe(BLK_S_UNSUPP);
    expect(backend.take()).toEqual([]);
  });

  it('ZONED is not offered', () => {
    expect(hasFeature(make().offered, 17)).toBe(false);
  });

  it('virtio 5.2.4, 5.2.5: the configuration says what the disk is', () => {
    const backend = new LoggingDevice({ sectorBytes: 512, physicalSectorBytes: 4096, sectorCount: 64 });
    const guest = make({ backend, device: { queueSizeMax: 64, sizeMaxBytes: 8192 } });
    expect(config32(guest, CONFIG.capacity)).toBe(64);
    expect(config32(guest, CONFIG.sizeMax)).toBe(8192);
    expect(config32(guest, CONFIG.segMax)).toBe(62);
    expect(config32(guest, CONFIG.blkSize)).toBe(512);
    expect(config8(guest, CONFIG.physicalBlockExp)).toBe(3);
    expect(guest.transport.read(REG_CONFIG + CONFIG.minIoSize, 2)).toBe(8);
    expect([CONFIG.blkSize, CONFIG.writeback, CONFIG.maxDiscardSectors, CONFIG_BYTES]).toEqual([20, 32, 36, 72]);
  });

  it('virtio 5.2.6: the unit is 512 bytes whatever the sector; a disk of 4096 refuses what is not whole sectors', () => {
    const backend = new LoggingDevice({ sectorBytes: 4096, sectorCount: 8 });
    const guest = guestOn(backend);
    expect(config32(guest, CONFIG.capacity)).toBe(64);
    expect(config32(guest, CONFIG.blkSize)).toBe(4096);
    expect(config32(guest, CONFIG.discardSectorAlignment)).toBe(8);
    expect(write(guest, 8, pattern(4096, 1)).status).toBe(BLK_S_OK);
    expect(backend.take()).toEqual(['write 1+1']);
    expect(write(guest, 1, pattern(4096, 1)).status).toBe(BLK_S_IOERR);
    expect(write(guest, 8, pattern(512, 1)).status).toBe(BLK_S_IOERR);
    expect(ranges(guest, BLK_T_DISCARD, range(8, 1)).status).toBe(BLK_S_IOERR);
    expect(ranges(guest, BLK_T_DISCARD, range(1, 8)).status).toBe(BLK_S_IOERR);
    expect(backend.take()).toEqual([]);
    expect(ranges(guest, BLK_T_DISCARD, range(8, 16)).status).toBe(BLK_S_OK);
    expect(backend.take()).toEqual(['discard 1+2']);
  });

  it('virtio 5.2.6: GET_ID', () => {
    const answer = make()
      .up()
      .send([{ give: header(BLK_T_GET_ID) }, { room: 20 }, { room: 1 }]);
    expect(Buffer.from(answer.written).toString('latin1')).toBe('disk-under-test\0\0\0\0\0\0');
    expect(answer.usedLength).toBe(21);
    const full = make({ device: { id: '01234567890123456789' } }).up();
    const filled = full.send([{ give: header(BLK_T_GET_ID) }, { room: 21 }]);
    expect(Buffer.from(filled.written).toString('latin1')).toBe('01234567890123456789\0');
    expect(() => make({ device: { id: '012345678901234567890' } })).toThrow(RangeError);
  });

  it('a whole-sector segment goes straight to the backend, in one operation', () => {
    const backend = new LoggingDevice();
    const guest = guestOn(backend);
    write(guest, 0, pattern(4096, 1));
    expect(backend.take()).toEqual(['write 0+8']);
  });
});

type Case = readonly [name: string, parts: readonly Part[], status: number];
const CAPACITY = 64;
const given = (bytes: Uint8Array, lengthBytes = bytes.length): Part => ({ give: bytes.subarray(0, lengthBytes) });
const data = pattern(512, 1);
const status: Part = { room: 1 };

const HOSTILE: readonly Case[] = [
  ['a read past the capacity', [given(header(BLK_T_IN, CAPACITY)), { room: 513 }], BLK_S_IOERR],
  ['a read across the end', [given(header(BLK_T_IN, CAPACITY - 1)), { room: 1025 }], BLK_S_IOERR],
  ['a read whose end wraps', [given(header(BLK_T_IN, 2n ** 64n - 1n)), { room: 1025 }], BLK_S_IOERR],
  ['a sector that is right but for its high word', [given(header(BLK_T_IN, 2n ** 32n)), { room: 513 }], BLK_S_IOERR],
  ['a write past the capacity', [given(header(BLK_T_OUT, CAPACITY)), given(data), status], BLK_S_IOERR],
  ['a write at 2^63', [given(header(BLK_T_OUT, 2n ** 63n)), given(data), status], BLK_S_IOERR],
  ['a write at 2^53 - 1', [given(header(BLK_T_OUT, 2n ** 53n - 1n)), given(data), status], BLK_S_IOERR],
  ['a write of 511 bytes', [given(header(BLK_T_OUT)), given(data, 511), status], BLK_S_IOERR],
  ['a read of 513 bytes', [given(header(BLK_T_IN)), { room: 514 }], BLK_S_IOERR],
  ['a read with a readable buffer', [given(header(BLK_T_IN)), given(data), status], BLK_S_IOERR],
  ['a read with both', [given(header(BLK_T_IN)), given(data), { room: 513 }], BLK_S_IOERR],
  ['a write with a writable buffer', [given(header(BLK_T_OUT)), { room: 513 }], BLK_S_IOERR],
  ['a write with both', [given(header(BLK_T_OUT)), given(data), { room: 513 }], BLK_S_IOERR],
  ['no whole header', [given(header(BLK_T_IN), 15), { room: 513 }], BLK_S_IOERR],
  ['no header at all', [{ room: 513 }], BLK_S_IOERR],
  ['a readable buffer after a writable one', [given(header(BLK_T_OUT)), { room: 4 }, given(data), status], BLK_S_IOERR],
  ['an unknown type', [given(header(0x7fff_ffff)), status], BLK_S_UNSUPP],
  ['a type of all ones', [given(header(0xffff_ffff)), { room: 513 }], BLK_S_UNSUPP],
  ['SECURE_ERASE, which is not offered', [given(header(14)), given(range(0, 1)), status], BLK_S_UNSUPP],
  ['GET_ID with a short buffer', [given(header(BLK_T_GET_ID)), { room: 20 }], BLK_S_IOERR],
  ['GET_ID with a long buffer', [given(header(BLK_T_GET_ID)), { room: 22 }], BLK_S_IOERR],
  ['a discard of no segment', [given(header(BLK_T_DISCARD)), status], BLK_S_IOERR],
  ['a discard of 0 sectors', [given(header(BLK_T_DISCARD)), given(range(0, 0)), status], BLK_S_IOERR],
  ['a discard of part of a segment', [given(header(BLK_T_DISCARD)), given(range(0, 1), 15), status], BLK_S_IOERR],
  ['a discard past the capacity', [given(header(BLK_T_DISCARD)), given(range(CAPACITY, 1)), status], BLK_S_IOERR],
  ['a discard that wraps', [given(header(BLK_T_DISCARD)), given(range(2n ** 64n - 1n, 2)), status], BLK_S_IOERR],
  ['a discard with a writable buffer', [given(header(BLK_T_DISCARD)), { room: 17 }], BLK_S_IOERR],
  [
    'a discard of too many segments',
    [
      given(header(BLK_T_DISCARD)),
      ...Array.from({ length: 12 }, () => given(Buffer.concat([range(0, 1), range(1, 1)]))),
      status,
    ],
    BLK_S_IOERR,
  ],
  [
    'a write zeroes with one good and one bad segment',
    [given(header(BLK_T_WRITE_ZEROES)), given(range(0, 1)), given(range(CAPACITY - 1, 2)), status],
    BLK_S_IOERR,
  ],
  ['data outside memory', [given(header(BLK_T_OUT)), { address: 0x7000_0000, lengthBytes: 512 }, status], BLK_S_IOERR],
  [
    'data across the end of memory',
    [given(header(BLK_T_OUT)), { address: 0x3fff0, lengthBytes: 512 }, status],
    BLK_S_IOERR,
  ],
  ['data at 2^63', [given(header(BLK_T_OUT)), { address: 2 ** 63, lengthBytes: 512 }, status], BLK_S_IOERR],
  [
    'data that wraps around 2^64',
    [given(header(BLK_T_OUT)), { address: 2 ** 64 - 2048, lengthBytes: 4096 }, status],
    BLK_S_IOERR,
  ],
  [
    'a read to outside memory',
    [given(header(BLK_T_IN)), { address: 2 ** 40, lengthBytes: 512, write: true }, status],
    BLK_S_IOERR,
  ],
  ['a header outside memory', [{ address: 2 ** 40, lengthBytes: 16 }, { room: 513 }], BLK_S_IOERR],
];

const TOLERATED: readonly Case[] = [
  ['FLUSH with a sector', [given(header(BLK_T_FLUSH, 77)), status], BLK_S_OK],
  ['FLUSH with data', [given(header(BLK_T_FLUSH)), given(data), status], BLK_S_OK],
  ['a zero-length descriptor', [given(header(BLK_T_OUT)), given(data, 0), given(data), status], BLK_S_OK],
  [
    'a zero-length descriptor at no address',
    [given(header(BLK_T_OUT)), { address: 2 ** 40, lengthBytes: 0 }, given(data), status],
    BLK_S_OK,
  ],
  ['a reserved word that is not 0', [given(header(BLK_T_FLUSH, 0, 0xffff_ffff)), status], BLK_S_OK],
  ['a read of the last sector', [given(header(BLK_T_IN, CAPACITY - 1)), { room: 513 }], BLK_S_OK],
  ['a transfer of nothing', [given(header(BLK_T_OUT, 3)), status], BLK_S_OK],
];

describe.each(RINGS)('virtio block device on a %s ring, hostile driver: a status, and nothing done', (kind) => {
  beforeEach(() => {
    ring = kind;
  });

  it.each(HOSTILE)('%s', (_name, parts, expected) => {
    const backend = new LoggingDevice({ sectorCount: CAPACITY });
    const guest = guestOn(backend);
    const answer = guest.send(parts);
    expect(answer.status).toBe(expected);
    expect(backend.take()).toEqual([]);
    expect(guest.needsReset).toBe(false);
    expect(write(guest, 0, data).status).toBe(BLK_S_OK);
  });

  it.each(TOLERATED)('tolerated: %s', (_name, parts, expected) => {
    expect(guestOn(new LoggingDevice({ sectorCount: CAPACITY })).send(parts).status).toBe(expected);
  });

  const MUTE: readonly (readonly [string, readonly Part[] | ((guest: Guest) => readonly Part[])])[] = [
    ['no status byte', [given(header(BLK_T_OUT)), given(data)]],
    [
      'a status byte outside memory',
      [given(header(BLK_T_OUT)), given(data), { address: 2 ** 40, lengthBytes: 1, write: true }],
    ],
    [
      'a status byte in the device area',
      ({ queue }) => [
        given(header(BLK_T_OUT)),
        given(data),
        { address: queue.device + 3, lengthBytes: 1, write: true },
      ],
    ],
    ['an empty chain', [given(data, 0)]],
  ];
  it.each(MUTE)('%s: given back with length 0, nothing done', (_name, parts) => {
    const backend = new LoggingDevice();
    const guest = guestOn(backend);
    const { id } = guest.offer(typeof parts === 'function' ? parts(guest) : parts);
    guest.notify();
    expect(guest.used).toEqual([{ id, lengthBytes: 0 }]);
    expect(backend.take()).toEqual([]);
    expect(guest.needsReset).toBe(false);
  });

  it('requests of features that were not negotiated are UNSUPP', () => {
    const backend = new LoggingDevice();
    const guest = guestOn(backend, []);
    expect(guest.send([given(header(BLK_T_FLUSH)), status]).status).toBe(BLK_S_UNSUPP);
    expect(ranges(guest, BLK_T_DISCARD, range(0, 1)).status).toBe(BLK_S_UNSUPP);
    expect(ranges(guest, BLK_T_WRITE_ZEROES, range(0, 1)).status).toBe(BLK_S_UNSUPP);
    expect(backend.take()).toEqual([]);
  });

  it('zero limits are never offered: max_discard_sectors and its like are positive', () => {
    const guest = guestOn(new LoggingDevice(), [BLK_F_DISCARD, BLK_F_WRITE_ZEROES]);
    const limits = [
      CONFIG.maxDiscardSectors,
      CONFIG.maxDiscardSeg,
      CONFIG.maxWriteZeroesSectors,
      CONFIG.maxWriteZeroesSeg,
    ];
    for (const limit of limits) expect(config32(guest, limit)).toBeGreaterThan(0);
    expect(() => make({ device: { rangeUnitsMax: 0 } })).toThrow(RangeError);
    expect(() => make({ device: { rangeCountMax: 0 } })).toThrow(RangeError);
  });

  it('configuration writes: only writeback, only a byte, only 0 or 1, only from FEATURES_OK on', () => {
    const guest = make({ device: { writeback: true } });
    guest.transport.write(REG_CONFIG + CONFIG.writeback, 1, 0);
    expect(config8(guest, CONFIG.writeback)).toBe(1);
    guest.up();
    for (const [offset, width, value] of [
      [CONFIG.writeback, 4, 0],
      [CONFIG.writeback, 2, 0],
      [CONFIG.writeback, 1, 2],
      [CONFIG.capacity, 4, 1],
      [CONFIG.blkSize, 4, 1],
      [CONFIG_BYTES, 4, 1],
    ] as const) {
      const before = Array.from({ length: CONFIG_BYTES }, (_, i) => config8(guest, i));
      guest.transport.write(REG_CONFIG + offset, width, value);
      expect(Array.from({ length: CONFIG_BYTES }, (_, i) => config8(guest, i))).toEqual(before);
    }
    guest.transport.write(REG_CONFIG + CONFIG.writeback, 1, 0);
    expect(config8(guest, CONFIG.writeback)).toBe(0);
  });
});
