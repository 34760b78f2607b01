import { describe, expect, it } from 'vitest';
import { equalBytes } from '../../src/core/index.ts';
import {
  BLK_F_FLUSH,
  BLK_S_IOERR,
  BLK_S_OK,
  BLK_T_FLUSH,
  BLK_T_IN,
  BLK_T_OUT,
  BLK_T_WRITE_ZEROES,
  DESC_BYTES,
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  type FlatMemory,
  type GuestMemory,
  INTERRUPT_CONFIG,
  INTERRUPT_USED,
  type QueueAddresses,
  REG_INTERRUPT_STATUS,
  REG_QUEUE_READY,
  REG_QUEUE_SEL,
} from '../../src/virtio/index.ts';
import { cut } from './cuts.ts';
import { GUEST_BYTES, Guest, header, LoggingDevice, type Part, pattern, range, sectorOf } from './harness.ts';
import { spied } from './spied-memory.ts';

describe('split virtqueue, device side', () => {
  it('checklist 2, virtio 2.7.5.1: a device-readable buffer is never written', () => {
    const guest = new Guest().up();
    for (const type of [0, 1, 4, 8, 11, 13, 99]) {
      const given = new Uint8Array([...header(type, 1), ...pattern(512, type)]);
      guest.recycle();
      const address = guest.alloc(given.length);
      guest.view(address, given.length).set(given);
      const { head } = guest.build([{ address, lengthBytes: given.length }, { room: 21 }]);
      guest.ring.offer(head);
      guest.notify();
      expect(guest.view(address, given.length)).toEqual(given);
    }
  });

  it('checklist 3, virtio 2.7.5.1: the descriptor table is never written, not even through a buffer that names it', () => {
    const guest = new Guest().up();
    guest.backend.write(0, pattern(1024, 9));
    guest.build([
      { give: header(BLK_T_IN, 0) },
      { address: guest.queue.desc, lengthBytes: 512, write: true },
      { room: 1 },
    ]);
    const table = guest.view(guest.queue.desc, 16 * DESC_BYTES);
    const before = table.slice();
    guest.ring.offer(0);
    guest.notify();
    expect(table).toEqual(before);
    expect(guest.ring.usedIndex).toBe(1);
    expect(guest.view(0x4000 + 16, 1)[0]).toBe(BLK_S_IOERR);
  });

  it('checklist 4, virtio 2.7.5.1: a device-writable buffer is not read', () => {
    const log: string[] = [];
    const guest = new Guest({ wrapMemory: (memory) => spied(log, memory) }).up();
    log.length = 0;
    const room = 0x4000 + 16;
    guest.send([{ give: header(BLK_T_IN, 0) }, { room: 512 }, { room: 1 }]);
    const touching = log.filter(
      (entry) => Number.parseInt(entry.split(' ')[1]!, 10) >= room && !/^(?:contains|reach)/.test(entry),
    );
    expect(touching).toEqual([`slice ${room}+512`, `writeU8 ${room + 512}`]);
  });

  it('checklist 7, virtio 2.7.7.2: used_event is ignored without EVENT_IDX', () => {
    const guest = new Guest().up();
    guest.memory.writeU16(guest.queue.driver + 4 + 2 * guest.queue.size, 40_000);
    guest.send([{ give: header(BLK_T_FLUSH) }, { room: 1 }]);
    expect(guest.takeInterrupt()).toBe(INTERRUPT_USED);
  });

  it('checklist 8, virtio 2.7.7.2: with avail flags 0, used buffers are notified', () => {
    const guest = new Guest().up();
    for (let i = 0; i < 3; i++) {
      guest.send([{ give: header(BLK_T_FLUSH) }, { room: 1 }]);
      expect(guest.transport.interruptAsserted).toBe(true);
      expect(guest.takeInterrupt()).toBe(INTERRUPT_USED);
      expect(guest.transport.interruptAsserted).toBe(false);
    }
  });

  it('checklist 9, virtio 2.7.7.2: with avail flags 1, they are not', () => {
    const guest = new Guest().up();
    guest.ring.setAvailFlags(1);
    guest.send([{ give: header(BLK_T_FLUSH) }, { room: 1 }]);
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(0);
  });

  it('checklist 13, virtio 2.7.8.2: id and length stand in the used ring before its index says so', () => {
    const log: string[] = [];
    const guest = new Guest({ wrapMemory: (memory) => spied(log, memory) }).up();
    guest.send([{ give: header(BLK_T_FLUSH) }, { room: 1 }]);
    const { device } = guest.queue;
    const writes = log.filter((entry) => /^(?:write|store)/.test(entry));
    expect(writes.slice(-4)).toEqual([
      `writeU8 ${0x4000 + 16}`,
      `writeU32 ${device + 4}`,
      `writeU32 ${device + 8}`,
      `storeU16 ${device + 2}`,
    ]);
  });

  it('checklist 15, virtio 2.7.10.2: used flags are 0 or 1, whatever the driver left there', () => {
    const guest = new Guest();
    guest.negotiate();
    guest.memory.writeU16(guest.queue.device, 0xbeef);
    guest.setUpQueue();
    guest.driverOk();
    guest.send([{ give: header(BLK_T_FLUSH) }, { room: 1 }]);
    expect([0, 1]).toContain(guest.ring.usedFlags);
  });

  it('checklist 17, virtio 2.7.10.2: spurious notifications do nothing', () => {
    const guest = new Guest().up();
    for (let i = 0; i < 5; i++) guest.notify();
    for (const queue of [1, 0xffff, 0xffff_ffff]) guest.notify(queue);
    expect(guest.ring.usedIndex).toBe(0);
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(0);
    expect(guest.send([{ give: header(BLK_T_FLUSH) }, { room: 1 }]).status).toBe(BLK_S_OK);
  });

  it('virtio 2.7.13.3: both indices wrap at 2^16', () => {
    const guest = new Guest({ queueSize: 4 }).up();
    guest.ring.setAvailFlags(1);
    const { head } = guest.build([{ give: header(BLK_T_FLUSH) }, { room: 1 }]);
    for (let i = 0; i < 65_536 + 10; i++) {
      guest.ring.offer(head);
      guest.notify();
    }
    expect(guest.ring.usedIndex).toBe(10);
    expect(guest.needsReset).toBe(false);
  });

  it('serves no more than the queue holds in one notification, however fast the driver adds', () => {
    let guest: Guest | undefined;
    // Each time the device looks at the available index, there is one more request.
    const eager = (memory: FlatMemory): GuestMemory =>
      new Proxy(memory, {
        get(target, property) {
          const value: unknown = Reflect.get(target, property, target);
          if (typeof value !== 'function') return value;
          return (...args: number[]) => {
            if (property === 'loadU16' && guest !== undefined && args[0] === guest.queue.driver + 2)
              guest.ring.offer(0);
            return value.apply(target, args);
          };
        },
      });
    const made = new Guest({ wrapMemory: eager, queueSize: 8 }).up();
    made.build([{ give: header(BLK_T_FLUSH) }, { room: 1 }]);
    guest = made;
    made.notify();
    expect(made.ring.usedIndex).toBe(8);
  });
});

/** What a hostile driver does to the ring, after a good initialisation. */
const BREAKS: readonly [string, (guest: Guest) => void][] = [
  [
    'a descriptor chain that loops',
    ({ ring }) => {
      ring.setDescriptor(0, { address: 0x8000, lengthBytes: 16, flags: DESC_F_NEXT, next: 1 });
      ring.setDescriptor(1, { address: 0x8000, lengthBytes: 16, flags: DESC_F_NEXT, next: 0 });
      ring.offer(0);
    },
  ],
  [
    'a descriptor that follows itself',
    ({ ring }) => {
      ring.setDescriptor(2, { address: 0x8000, lengthBytes: 16, flags: DESC_F_NEXT, next: 2 });
      ring.offer(2);
    },
  ],
  [
    'a chain that leads past the table',
    ({ ring, queue }) => {
      ring.setDescriptor(0, { address: 0x8000, lengthBytes: 16, flags: DESC_F_NEXT, next: queue.size });
      ring.offer(0);
    },
  ],
  ['a head past the table', ({ ring, queue }) => ring.offer(queue.size)],
  ['a head far past the table', ({ ring }) => ring.offer(0xffff)],
  ['an available index that jumps by more than the queue', ({ ring, queue }) => ring.setAvailIndex(queue.size + 1)],
  ['an available index that goes back', ({ ring }) => ring.setAvailIndex(0xffff)],
  [
    'an indirect descriptor without the feature',
    ({ ring }) => {
      ring.setDescriptor(0, { address: 0x8000, lengthBytes: 32, flags: DESC_F_INDIRECT });
      ring.offer(0);
    },
  ],
  [
    'a chain of more than 2^32 bytes',
    ({ ring }) => {
      ring.setDescriptor(0, { address: 0x8000, lengthBytes: 0xffff_ffff, flags: DESC_F_NEXT, next: 1 });
      ring.setDescriptor(1, { address: 0x8000, lengthBytes: 0xffff_ffff, flags: DESC_F_WRITE });
      ring.offer(0);
    },
  ],
];

describe('split virtqueue, hostile driver: the ring breaks, and only a reset mends it', () => {
  it.each(BREAKS)('%s', (_name, hurt) => {
    const backend = new LoggingDevice();
    const guest = new Guest({ backend }).up();
    hurt(guest);
    guest.notify();
    expect(guest.needsReset).toBe(true);
    expect(guest.takeInterrupt()).toBe(INTERRUPT_CONFIG);
    expect(guest.ring.usedIndex).toBe(0);
    expect(backend.take()).toEqual([]);
    // Stopped: even a good request is not looked at.
    guest.ring.clear();
    guest.build([{ give: header(BLK_T_FLUSH) }, { room: 1 }]);
    guest.ring.offer(0);
    guest.notify();
    expect(guest.ring.usedIndex).toBe(0);
    guest.up();
    expect(guest.send([{ give: header(BLK_T_FLUSH) }, { room: 1 }]).status).toBe(BLK_S_OK);
  });

  it('a head in flight that is made available again', () => {
    const backend = new LoggingDevice();
    const guest = new Guest({ backend, device: { choices: { choose: () => 0 } } }).up();
    guest.build([{ give: header(BLK_T_FLUSH) }, { room: 1 }]);
    guest.ring.offer(0);
    guest.ring.offer(0);
    guest.notify();
    expect(guest.needsReset).toBe(true);
    // The first was good, and is answered before the queue stops.
    expect(guest.ring.usedIndex).toBe(1);
    expect(backend.take()).toEqual(['flush']);
    expect(guest.takeInterrupt()).toBe(INTERRUPT_USED | INTERRUPT_CONFIG);
  });

  it('a chain as long as the queue is served: the bound is exact', () => {
    const guest = new Guest({ queueSize: 8 }).up();
    const parts: Part[] = Array.from({ length: 6 }, () => ({ give: pattern(512, 1) }));
    expect(guest.send([{ give: header(BLK_T_OUT) }, ...parts, { room: 1 }]).status).toBe(BLK_S_OK);
  });

  it.each([
    ['a write', [...cut(new Uint8Array([...header(BLK_T_OUT, 5), ...pattern(512, 3)]), [3, 20]), { room: 1 }]],
    ['a read', [{ give: header(BLK_T_IN) }, { room: 300 }, { room: 213 }]],
    ['a write zeroes', [{ give: header(BLK_T_WRITE_ZEROES) }, { give: range(1, 2) }, { room: 1 }]],
  ] as [string, Part[]][])('reads each descriptor and each given byte once, in %s', (_name, parts) => {
    const log: string[] = [];
    const guest = new Guest({ wrapMemory: (memory) => spied(log, memory) }).up();
    log.length = 0;
    expect(guest.send(parts).status).toBe(BLK_S_OK);
    const { desc, size } = guest.queue;
    const isTable = (at: number) => at >= desc && at < desc + size * DESC_BYTES;
    const widths: Readonly<Record<string, number>> = { readU8: 1, readU16: 2, readU32: 4, readU64: 8, loadU16: 2 };
    const reads = log
      .filter((entry) => /^(?:read|load|slice)/.test(entry))
      .flatMap((entry) => {
        const [, name = '', at = '', lengthBytes] = /^(\w+) (\d+)(?:\+(\d+))?/.exec(entry) as RegExpExecArray;
        return Array.from({ length: Number(lengthBytes ?? widths[name]) }, (_, i) => Number(at) + i);
      })
      .filter((at) => isTable(at) || at >= 0x4000);
    expect(reads.filter(isTable).length).toBeGreaterThan(parts.length * 13);
    expect(new Set(reads).size).toBe(reads.length);
  });

  const good: QueueAddresses = new Guest().queue;
  it.each<[string, QueueAddresses]>([
    ['size 0', { ...good, size: 0 }],
    ['a size that is no power of two', { ...good, size: 12 }],
    ['a size above the maximum', { ...good, size: 256 }],
    ['a size of 2^31', { ...good, size: 2 ** 31 }],
    ['a misaligned descriptor table', { ...good, desc: good.desc + 8 }],
    ['a misaligned available ring', { ...good, driver: good.driver + 1 }],
    ['a misaligned used ring', { ...good, device: good.device + 2 }],
    ['a descriptor table outside memory', { ...good, desc: GUEST_BYTES }],
    ['a descriptor table across the end', { ...good, desc: GUEST_BYTES - 16 }],
    ['an available ring across the end', { ...good, driver: GUEST_BYTES - 4 }],
    ['a used ring across the end', { ...good, device: GUEST_BYTES - 8 }],
    ['a used ring that wraps around 2^64', { ...good, device: 2 ** 64 - 2048 }],
    ['an address above 2^53', { ...good, desc: 2 ** 60 }],
    ['an address that is right but for its high word', { ...good, desc: good.desc + 2 ** 32 }],
    ['parts that overlap', { ...good, driver: good.desc + 32 }],
    ['a used ring over the descriptor table', { ...good, device: good.desc }],
  ])('ring addresses: %s', (_name, queue) => {
    const guest = new Guest();
    guest.negotiate();
    guest.setUpQueue(queue);
    guest.driverOk();
    guest.ring.offer(0);
    const offered = guest.bytes.slice();
    guest.notify();
    expect(guest.needsReset).toBe(true);
    expect(guest.transport.needsResetWhy).toBeDefined();
    expect(equalBytes(guest.bytes, offered)).toBe(true);
    guest.up();
    expect(guest.send([{ give: header(BLK_T_FLUSH) }, { room: 1 }]).status).toBe(BLK_S_OK);
  });

  it.each([2 ** 32, 2 ** 40 + 4096, 2 ** 52])('all 64 bits of an address matter: memory at %d', (base) => {
    const guest = new Guest({ base }).up([BLK_F_FLUSH]);
    const data = pattern(512, 5);
    expect(guest.send([{ give: header(BLK_T_OUT, 3) }, { give: data }, { room: 1 }]).status).toBe(BLK_S_OK);
    expect(sectorOf(guest.backend, 3)).toEqual(data);
    // The same buffer named without its high word is outside.
    const low = { address: (base % 2 ** 32) + 0x8000, lengthBytes: 512 };
    expect(guest.send([{ give: header(BLK_T_OUT, 3) }, low, { room: 1 }]).status).toBe(BLK_S_IOERR);
  });

  it('checklist 31, virtio 4.2.2.1: a queue that the driver stopped is not touched', () => {
    const guest = new Guest().up();
    guest.write(REG_QUEUE_SEL, 0);
    guest.write(REG_QUEUE_READY, 0);
    expect(guest.read(REG_QUEUE_READY)).toBe(0);
    guest.build([{ give: header(BLK_T_FLUSH) }, { room: 1 }]);
    guest.ring.offer(0);
    const before = guest.bytes.slice();
    guest.notify();
    expect(equalBytes(guest.bytes, before)).toBe(true);
    expect(guest.needsReset).toBe(false);
  });
});
