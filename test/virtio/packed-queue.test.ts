import { describe, expect, it } from 'vitest';
import { equalBytes } from '../../src/core/index.ts';
import {
  BLK_S_IOERR,
  BLK_S_OK,
  BLK_T_FLUSH,
  BLK_T_IN,
  BLK_T_OUT,
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  F_IN_ORDER,
  type FlatMemory,
  INTERRUPT_CONFIG,
  INTERRUPT_USED,
  PACKED_F_AVAIL,
  PACKED_F_USED,
  passedPackedEvent,
  type QueueAddresses,
} from '../../src/virtio/index.ts';
import {
  GUEST_BYTES,
  Guest,
  type GuestOptions,
  header,
  LoggingDevice,
  type Part,
  pattern,
  sectorOf,
} from './harness.ts';
import { spied } from './spied-memory.ts';

const FLUSH: readonly Part[] = [{ give: header(BLK_T_FLUSH) }, { room: 1 }];
const USED = PACKED_F_AVAIL | PACKED_F_USED;

function up(options: GuestOptions = {}): Guest {
  return new Guest({ ring: 'packed', ...options }).up();
}

describe('packed virtqueue, device side', () => {
  it('checklist 18, virtio 2.8.12: requests are begun in the order of the ring', () => {
    const backend = new LoggingDevice();
    const guest = up({ backend });
    for (const sector of [5, 3, 4])
      guest.offer([{ give: header(BLK_T_OUT, sector) }, { give: pattern(512, 1) }, { room: 1 }]);
    guest.notify();
    expect(backend.take()).toEqual(['write 5+1', 'write 3+1', 'write 4+1']);
  });

  it('checklist 19, virtio 2.8.12: used descriptors are written in the order of completion, one a list', () => {
    const choices = { choose: (options: number) => options - 1 };
    const guest = up({ device: { choices } });
    const ids = [0, 1, 2].map(() => guest.offer(FLUSH).id);
    guest.notify();
    expect(guest.used.map(({ id }) => id)).toEqual(ids.toReversed());
    // Over the first descriptor of each list; the second of each stays as the driver wrote it (2.8.6).
    const marks = Array.from({ length: 6 }, (_, i) => guest.packed.flags(i) & USED);
    expect(marks).toEqual([USED, PACKED_F_AVAIL, USED, PACKED_F_AVAIL, USED, PACKED_F_AVAIL]);
  });

  it('checklist 20, virtio 2.8.15: a device-readable buffer is never written', () => {
    const guest = up();
    for (const type of [0, 1, 4, 8, 10, 11, 13, 14, 99]) {
      const given = new Uint8Array([...header(type, 1), ...pattern(512, type)]);
      guest.recycle();
      const address = guest.alloc(given.length);
      guest.view(address, given.length).set(given);
      guest.offer([{ address, lengthBytes: given.length }, { room: 21 }]);
      guest.notify();
      expect(guest.view(address, given.length)).toEqual(given);
    }
  });

  it('checklist 21, virtio 2.8.15: a device-writable buffer is not read', () => {
    const log: string[] = [];
    const guest = up({ wrapMemory: (memory) => spied(log, memory) });
    log.length = 0;
    const room = 0x4000 + 16;
    guest.send([{ give: header(BLK_T_IN, 0) }, { room: 512 }, { room: 1 }]);
    const touching = log.filter(
      (entry) => Number.parseInt(entry.split(' ')[1]!, 10) >= room && !entry.startsWith('reach'),
    );
    expect(touching).toEqual([`slice ${room}+512`, `writeU8 ${room + 512}`]);
  });

  it.each([
    ['zeroes', 0],
    ['both bits set', USED],
    ['the bits of the other turn', PACKED_F_USED],
  ])('checklist 22, virtio 2.8.15: a descriptor with %s is not used', (_name, mark) => {
    const guest = up();
    guest.driver.offer(guest.lay(FLUSH).segments);
    guest.packed.setFlags(0, mark | DESC_F_NEXT);
    const before = guest.bytes.slice();
    guest.notify();
    expect(equalBytes(guest.bytes.subarray(0, 0x1100), before.subarray(0, 0x1100))).toBe(true);
    expect(guest.needsReset).toBe(false);
    guest.packed.setFlags(0, PACKED_F_AVAIL | DESC_F_NEXT);
    guest.notify();
    expect(guest.used).toHaveLength(1);
  });

  it.each([5, 6, 7, 8])(
    'checklist 22, virtio 2.8.1: over many turns of a ring of %d, which the lists do not fit',
    (queueSize) => {
      const guest = up({ queueSize });
      for (let i = 0; i < 100; i++) {
        const data = pattern(512, i);
        expect(guest.send([{ give: header(BLK_T_OUT, i % 64) }, { give: data }, { room: 1 }]).status).toBe(BLK_S_OK);
        guest.notify();
        expect(guest.used).toHaveLength(i + 1);
      }
      expect(sectorOf(guest.backend, 99 % 64)).toEqual(pattern(512, 99));
    },
  );

  it('checklist 23, virtio 2.8.15: a descriptor is not changed after its USED bit is', () => {
    const log: string[] = [];
    const guest = up({ wrapMemory: (memory) => spied(log, memory) });
    log.length = 0;
    guest.send(FLUSH);
    guest.notify();
    const { desc } = guest.queue;
    const ring = log.filter((entry) => {
      const at = Number.parseInt(entry.split(' ')[1]!, 10);
      return /^(?:write|store)/.test(entry) && at >= desc && at < desc + 256;
    });
    // Id and length first, and the flags that hand it over last.
    expect(ring).toEqual([`writeU16 ${desc + 12}`, `writeU32 ${desc + 8}`, `storeU16 ${desc + 14}`]);
  });

  it('checklist 24, virtio 2.8.17: the order of a list is kept', () => {
    const guest = up();
    const data = pattern(1024, 7);
    const request = new Uint8Array([...header(BLK_T_OUT, 9), ...data]);
    const parts = [3, 13, 100, 411, 1, 512].reduce<{ parts: Part[]; at: number }>(
      ({ parts: list, at }, length) => ({
        parts: [...list, { give: request.subarray(at, at + length) }],
        at: at + length,
      }),
      { parts: [], at: 0 },
    ).parts;
    expect(guest.send([...parts, { room: 1 }]).status).toBe(BLK_S_OK);
    expect(sectorOf(guest.backend, 9, 2)).toEqual(data);
    const back = guest.send([{ give: header(BLK_T_IN, 9) }, { room: 7 }, { room: 500 }, { room: 518 }]);
    expect(back.written).toEqual(new Uint8Array([...data, BLK_S_OK]));
    expect(back.usedLength).toBe(1025);
  });

  it.each([
    ['a read', header(BLK_T_IN, 0), 513, DESC_F_WRITE],
    ['a failed read, but for its status', header(BLK_T_IN, 64), 513, DESC_F_WRITE],
    ['a request without any room', header(BLK_T_FLUSH), 0, 0],
  ])('virtio 2.8.3: WRITE in a used descriptor says whether something was written: %s', (_name, given, room, flag) => {
    const guest = up();
    guest.offer(room > 0 ? [{ give: given }, { room }] : [{ give: given }]);
    guest.notify();
    expect(guest.packed.flags(0)).toBe(USED | flag);
  });

  it('virtio 2.8.10: DISABLE silences it; the reserved value does not, nor does DESC without EVENT_IDX', () => {
    const guest = up();
    for (const [flags, expected] of [
      [0, INTERRUPT_USED],
      [1, 0],
      [2, INTERRUPT_USED],
      [3, INTERRUPT_USED],
    ] as const) {
      guest.packed.setDriverEvent(9, flags);
      guest.send(FLUSH);
      expect(guest.takeInterrupt()).toBe(expected);
    }
  });

  it('virtio 2.8.10: its own event structure says ENABLE, whatever the driver left there', () => {
    const guest = new Guest({ ring: 'packed' });
    guest.negotiate();
    guest.memory.writeU32(guest.queue.device, 0xbeef_beef);
    guest.setUpQueue();
    guest.driverOk();
    guest.send(FLUSH);
    expect([guest.packed.deviceEventPosition, guest.packed.deviceEventFlags]).toEqual([0, 0]);
  });

  it.each([
    ['a write', [{ give: header(BLK_T_OUT, 5) }, { give: pattern(512, 3) }, { room: 1 }]],
    ['a read', [{ give: header(BLK_T_IN) }, { room: 300 }, { room: 213 }]],
  ] as [string, Part[]][])('reads each descriptor and each given byte once, in %s', (_name, parts) => {
    const log: string[] = [];
    const guest = up({ wrapMemory: (memory) => spied(log, memory) });
    log.length = 0;
    expect(guest.send(parts).status).toBe(BLK_S_OK);
    const widths: Readonly<Record<string, number>> = { readU8: 1, readU16: 2, readU32: 4, readU64: 8, loadU16: 2 };
    const end = guest.queue.desc + 16 * parts.length;
    const reads = log.flatMap((entry) => {
      const [, name = '', at = '', lengthBytes] = /^(\w+) (\d+)(?:\+(\d+))?/.exec(entry) as RegExpExecArray;
      return Array.from({ length: Number(lengthBytes ?? widths[name] ?? 0) }, (_, i) => Number(at) + i);
    });
    const relevant = reads.filter((at) => (at >= guest.queue.desc && at < end) || at >= 0x4000);
    expect(relevant.length).toBeGreaterThan(parts.length * 13);
    expect(new Set(relevant).size).toBe(relevant.length);
  });

  it('serves no more than the queue holds in one notification, however fast the driver adds', () => {
    let guest: Guest | undefined;
    const eager = (memory: FlatMemory) =>
      new Proxy(memory, {
        get(target, property) {
          const value: unknown = Reflect.get(target, property, target);
          if (typeof value !== 'function') return value;
          return (...args: number[]) => {
            // Whenever the device looks whether there is more, there is.
            if (property === 'loadU16' && guest !== undefined && (guest.packed.flags(next) & PACKED_F_AVAIL) === 0) {
              guest.offer(FLUSH);
              next = (next + 2) % 8;
            }
            return value.apply(target, args);
          };
        },
      });
    let next = 0;
    const made = up({ wrapMemory: eager, queueSize: 8 });
    guest = made;
    made.notify();
    guest = undefined;
    expect(made.used.length).toBeLessThanOrEqual(8);
    expect(made.used.length).toBeGreaterThan(2);
  });
});

/** What a hostile driver does to the ring, after a good initialisation. */
const BREAKS: readonly [string, (guest: Guest) => void][] = [
  [
    'a list as long as the ring that goes on',
    ({ packed, queue }) => {
      for (let i = 0; i < queue.size; i++) packed.append(0x8000, 16, 0, DESC_F_NEXT);
      packed.offer();
    },
  ],
  [
    'a list that leads to a descriptor that is not available',
    ({ packed }) => {
      packed.append(0x8000, 16, 0, DESC_F_NEXT);
      packed.offer();
    },
  ],
  [
    'an indirect descriptor without the feature',
    ({ packed }) => {
      packed.append(0x8000, 32, 0, DESC_F_INDIRECT);
      packed.offer();
    },
  ],
  [
    'a list of more than 2^32 bytes',
    ({ packed }) => {
      packed.append(0x8000, 0xffff_ffff, 0, DESC_F_NEXT);
      packed.append(0x8000, 0xffff_ffff, 0, DESC_F_WRITE);
      packed.offer();
    },
  ],
];

describe('packed virtqueue, hostile driver: the ring breaks, and only a reset mends it', () => {
  it.each(BREAKS)('%s', (_name, hurt) => {
    const backend = new LoggingDevice();
    const guest = up({ backend });
    hurt(guest);
    guest.notify();
    expect(guest.needsReset).toBe(true);
    expect(guest.takeInterrupt()).toBe(INTERRUPT_CONFIG);
    expect(guest.used).toEqual([]);
    expect(backend.take()).toEqual([]);
    guest.notify();
    expect(guest.read(0x60)).toBe(0);
    expect(guest.up().send(FLUSH).status).toBe(BLK_S_OK);
  });

  it('a buffer id in flight that is made available again', () => {
    const backend = new LoggingDevice();
    const guest = up({ backend, device: { choices: { choose: () => 0 } } });
    const { segments } = guest.lay(FLUSH);
    for (let i = 0; i < 2; i++) {
      for (const [j, { address, lengthBytes, write }] of segments.entries()) {
        guest.packed.append(address, lengthBytes, 7, (write ? DESC_F_WRITE : 0) | (j === 0 ? DESC_F_NEXT : 0));
      }
      guest.packed.offer();
    }
    guest.notify();
    expect(guest.needsReset).toBe(true);
    // The first was good, and is answered before the queue stops.
    expect(backend.take()).toEqual(['flush']);
    expect(guest.takeInterrupt()).toBe(INTERRUPT_USED | INTERRUPT_CONFIG);
  });

  it('more descriptors in flight than the ring has', () => {
    const backend = new LoggingDevice();
    // While the device holds what it took, the driver overwrites it with what it makes available for the next turn.
    let guest: Guest | undefined;
    const meddle = (memory: FlatMemory) =>
      new Proxy(memory, {
        get(target, property) {
          const value: unknown = Reflect.get(target, property, target);
          if (typeof value !== 'function') return value;
          return (...args: number[]) => {
            if (property === 'loadU16' && guest !== undefined && args[0] === guest.queue.desc + 14 && served++ > 0) {
              guest.packed.setFlags(0, PACKED_F_USED | DESC_F_WRITE);
            }
            return value.apply(target, args);
          };
        },
      });
    let served = 0;
    const made = up({ backend, queueSize: 2, wrapMemory: meddle, device: { choices: { choose: () => 0 } } });
    made.offer(FLUSH);
    guest = made;
    made.notify();
    expect(made.needsReset).toBe(true);
    expect(made.transport.needsResetWhy).toMatch(/more descriptors/);
  });

  it('in order, more descriptors in one batch than the ring has: nothing is written behind the ring', () => {
    let guest: Guest | undefined;
    let wrap = true;
    // Whenever the device looks for the next request, there is one, over the two descriptors of the one before.
    const eager = (memory: FlatMemory) =>
      new Proxy(memory, {
        get(target, property) {
          const value: unknown = Reflect.get(target, property, target);
          if (typeof value !== 'function') return value;
          return (...args: number[]) => {
            if (property === 'loadU16' && guest !== undefined && args[0] === guest.queue.desc + 14) {
              const turn = wrap ? PACKED_F_AVAIL : PACKED_F_USED;
              guest.packed.setDescriptor(0, { address: 0x8000, lengthBytes: 16, flags: turn | DESC_F_NEXT });
              guest.packed.setDescriptor(1, { address: 0x8010, lengthBytes: 1, flags: turn | DESC_F_WRITE, id: +wrap });
              wrap = !wrap;
            }
            return value.apply(target, args);
          };
        },
      });
    const made = up({ queueSize: 2, wrapMemory: eager, ringBits: [F_IN_ORDER] });
    made.view(0x8000, 16).set(header(BLK_T_FLUSH));
    guest = made;
    for (let i = 0; i < 3; i++) made.notify();
    guest = undefined;
    expect(made.transport.needsResetWhy).toMatch(/more descriptors/);
    const behind = made.view(made.queue.device + 4, 64);
    expect(behind).toEqual(new Uint8Array(64));
  });

  it('any 16 bits are a buffer id', () => {
    const guest = up();
    const { segments } = guest.lay(FLUSH);
    for (const id of [0, 15, 16, 0x7fff, 0xffff]) {
      const at = guest.packed.position & 0x7fff;
      for (const [i, { address, lengthBytes, write }] of segments.entries()) {
        guest.packed.append(address, lengthBytes, id, (write ? DESC_F_WRITE : 0) | (i === 0 ? DESC_F_NEXT : 0));
      }
      guest.packed.offer();
      guest.notify();
      expect(guest.packed.id(at)).toBe(id);
      expect(guest.packed.flags(at)).toBe(USED | DESC_F_WRITE);
    }
  });

  it('a list as long as the ring is served: the bound is exact', () => {
    const guest = up({ queueSize: 7 });
    const parts: Part[] = Array.from({ length: 5 }, () => ({ give: pattern(512, 1) }));
    for (let i = 0; i < 3; i++)
      expect(guest.send([{ give: header(BLK_T_OUT) }, ...parts, { room: 1 }]).status).toBe(BLK_S_OK);
  });

  it('a read into the ring is refused: nothing of it is written but the used descriptor', () => {
    const guest = up();
    guest.backend.write(0, pattern(1024, 9));
    const rooms: Part[] = [{ address: guest.queue.desc, lengthBytes: 512, write: true }, { room: 1 }];
    const ring = guest.view(guest.queue.desc, 256);
    guest.offer([{ give: header(BLK_T_IN, 0) }, ...rooms]);
    const before = ring.slice();
    guest.notify();
    expect(ring.subarray(16)).toEqual(before.subarray(16));
    expect(guest.view(0x4000 + 16, 1)[0]).toBe(BLK_S_IOERR);
  });

  const good: QueueAddresses = new Guest({ ring: 'packed' }).queue;
  it.each<[string, QueueAddresses]>([
    ['size 0', { ...good, size: 0 }],
    ['a size above the maximum', { ...good, size: 129 }],
    ['a size of 2^31', { ...good, size: 2 ** 31 }],
    ['a misaligned ring', { ...good, desc: good.desc + 8 }],
    ['a misaligned driver area', { ...good, driver: good.driver + 2 }],
    ['a misaligned device area', { ...good, device: good.device + 2 }],
    ['a ring outside memory', { ...good, desc: GUEST_BYTES }],
    ['a ring across the end', { ...good, desc: GUEST_BYTES - 16 }],
    ['a driver area outside memory', { ...good, driver: GUEST_BYTES }],
    ['a device area that wraps around 2^64', { ...good, device: 2 ** 64 - 2048 }],
    ['an address above 2^53', { ...good, desc: 2 ** 60 }],
    ['an address that is right but for its high word', { ...good, desc: good.desc + 2 ** 32 }],
    ['areas that overlap', { ...good, driver: good.device }],
    ['a device area in the ring', { ...good, device: good.desc + 4 }],
  ])('ring addresses: %s', (_name, queue) => {
    const guest = new Guest({ ring: 'packed' });
    guest.negotiate();
    guest.setUpQueue(queue);
    guest.driverOk();
    guest.offer(FLUSH);
    const offered = guest.bytes.slice();
    guest.notify();
    expect(guest.needsReset).toBe(true);
    expect(equalBytes(guest.bytes, offered)).toBe(true);
    expect(guest.up().send(FLUSH).status).toBe(BLK_S_OK);
  });
});

describe('packed events', () => {
  /** Walks the ring, entry after entry, and looks whether the event was one of them. */
  function touched(event: number, position: number, entryCount: number, size: number): boolean {
    let index = position & 0x7fff;
    let wrap = position >>> 15;
    for (let i = 0; i < entryCount; i++) {
      if (index === 0) wrap ^= 1;
      index = index === 0 ? size - 1 : index - 1;
      if (((wrap << 15) | index) === event) return true;
    }
    return false;
  }

  it('virtio 2.8.10: an event is touched when the move went over its entry in its turn', () => {
    for (const size of [1, 2, 5, 8]) {
      for (let count = 0; count <= size; count++) {
        for (let at = 0; at < 2 * size; at++) {
          for (let of = 0; of < 2 * size; of++) {
            const [position, event] = [at, of].map((n) => (n % size) | (n >= size ? 0 : 0x8000)) as [number, number];
            expect(passedPackedEvent(event, position, count, size)).toBe(touched(event, position, count, size));
          }
        }
      }
      expect(passedPackedEvent(size, 0x8000, size, size)).toBe(false);
      expect(passedPackedEvent(0x7fff, 0x8000, size, size)).toBe(false);
    }
  });
});
