import { describe, expect, it } from 'vitest';
import { BLK_T_IN, BLK_T_OUT, FlatMemory, type GuestMemory, RegionMemory } from '../../src/virtio/index.ts';
import { GUEST_BYTES, Guest, header, pattern, sectorOf } from './harness.ts';

const LOW = 0x1000;
const HIGH = 2 ** 32 + 0x2000;

function twoRegions() {
  const low = new Uint8Array(0x1000);
  const high = new Uint8Array(0x2000);
  return {
    low,
    high,
    memory: new RegionMemory([
      { base: HIGH, bytes: high },
      { base: LOW, bytes: low },
    ]),
  };
}

describe('guest memory of several regions', () => {
  it('every access goes to the region of its address, and nowhere where there is none', () => {
    const { low, high, memory } = twoRegions();
    for (const [base, bytes] of [
      [LOW, low],
      [HIGH, high],
    ] as const) {
      expect(memory.writeU64(base + 8, 0x1_2345_6789)).toBe(true);
      expect([...bytes.subarray(8, 16)]).toEqual([0x89, 0x67, 0x45, 0x23, 1, 0, 0, 0]);
      expect(memory.readU64(base + 8)).toBe(0x1_2345_6789);
      expect(memory.readU32(base + 8)).toBe(0x2345_6789);
      expect(memory.readU16(base + 8)).toBe(0x6789);
      expect(memory.readU8(base + 8)).toBe(0x89);
      expect(memory.loadU16(base + 8)).toBe(0x6789);
      expect(memory.storeU16(base + 8, 0xbeef)).toBe(true);
      expect(memory.writeU8(base + 10, 1) && memory.writeU16(base + 11, 2) && memory.writeU32(base + 13, 3)).toBe(true);
      expect([...bytes.subarray(8, 17)]).toEqual([0xef, 0xbe, 1, 2, 0, 3, 0, 0, 0]);
      expect(memory.slice(base, bytes.length)?.buffer).toBe(bytes.buffer);
      expect(memory.reach(base + 1)).toBe(bytes.length - 1);
    }
  });

  it.each([-1, 0, LOW - 1, LOW + 0x1000, HIGH - 1, HIGH + 0x2000, 2 ** 53 - 1, HIGH % 2 ** 32])(
    'nothing is at %d',
    (address) => {
      const { low, high, memory } = twoRegions();
      expect(memory.reach(address)).toBe(0);
      expect(memory.contains(address, 1)).toBe(false);
      expect(memory.slice(address, 1)).toBeUndefined();
      expect([memory.readU8(address), memory.readU16(address), memory.readU32(address)]).toEqual([-1, -1, -1]);
      expect([memory.readU64(address), memory.loadU16(address)]).toEqual([-1, -1]);
      expect(memory.writeU8(address, 1) || memory.writeU16(address, 1) || memory.writeU32(address, 1)).toBe(false);
      expect(memory.writeU64(address, 1) || memory.storeU16(address, 1)).toBe(false);
      expect([...low, ...high].some((byte) => byte !== 0)).toBe(false);
    },
  );

  it('no access crosses the end of a region, not even into its neighbour', () => {
    const memory = new RegionMemory([
      { base: 0, bytes: new Uint8Array(64) },
      { base: 64, bytes: new Uint8Array(64) },
    ]);
    expect(memory.readU16(63)).toBe(-1);
    expect(memory.writeU64(60, 1)).toBe(false);
    expect(memory.slice(32, 33)).toBeUndefined();
    expect(memory.contains(32, 32)).toBe(true);
    expect(memory.contains(32, 33)).toBe(false);
  });

  it('regions that overlap, are empty or are no bytes are refused, and the former ones stay', () => {
    const { memory } = twoRegions();
    const bytes = new Uint8Array(16);
    expect(() =>
      memory.map([
        { base: 0, bytes },
        { base: 15, bytes },
      ]),
    ).toThrow(RangeError);
    expect(() => memory.map([{ base: 0, bytes: new Uint8Array(0) }])).toThrow(RangeError);
    expect(() => memory.map([{ base: -1, bytes }])).toThrow(RangeError);
    expect(() => memory.map([{ base: 1, bytes }])).toThrow(/even/);
    expect(() => memory.map([{ base: 0, bytes: [] as unknown as Uint8Array }])).toThrow(TypeError);
    expect(memory.reach(LOW)).toBe(0x1000);
  });

  it('other regions take the place of the former ones at once', () => {
    const { memory } = twoRegions();
    memory.readU8(LOW);
    memory.map([{ base: 0x8000, bytes: new Uint8Array(16) }]);
    expect(memory.readU8(LOW)).toBe(-1);
    expect(memory.readU8(0x8000)).toBe(0);
    memory.map([]);
    expect(memory.readU8(0x8000)).toBe(-1);
  });

  it('ordered accesses are atomic on shared memory, and meet the plain ones', () => {
    const shared = new Uint8Array(new SharedArrayBuffer(64), 32);
    for (const memory of [new FlatMemory(shared, 0x100), new FlatMemory(new Uint8Array(32), 0x100)]) {
      memory.storeU16(0x102, 0x1234);
      expect([memory.readU8(0x102), memory.readU8(0x103)]).toEqual([0x34, 0x12]);
      memory.writeU16(0x11e, 0xfedc);
      expect(memory.loadU16(0x11e)).toBe(0xfedc);
      expect(memory.loadU16(0x11f)).toBe(-1);
    }
  });
});

describe('a device over several regions', () => {
  /** The guest's memory, cut in two where its heap is. */
  function cutAt(offset: number): Guest {
    const wrapMemory = (memory: FlatMemory): GuestMemory => {
      const bytes = memory.slice(0, GUEST_BYTES)!;
      return new RegionMemory([
        { base: 0, bytes: bytes.subarray(0, offset) },
        { base: offset, bytes: bytes.subarray(offset) },
      ]);
    };
    return new Guest({ wrapMemory }).up();
  }

  it.each([0x4010, 0x4020, 0x4110, 0x4210])('a buffer may go on in the region behind (cut at %d)', (offset) => {
    const guest = cutAt(offset);
    const data = pattern(512, 3);
    expect(guest.send([{ give: header(BLK_T_OUT, 2) }, { give: data }, { room: 1 }]).status).toBe(0);
    expect(sectorOf(guest.backend, 2)).toEqual(data);
    const answer = guest.send([{ give: header(BLK_T_IN, 2) }, { room: 513 }]);
    expect(answer.written).toEqual(new Uint8Array([...data, 0]));
  });

  it('a ring has to lie in one', () => {
    expect(cutAt(0x1080).needsReset).toBe(true);
    expect(cutAt(0x2000).needsReset).toBe(false);
  });
});
