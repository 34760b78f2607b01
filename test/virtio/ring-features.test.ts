import { describe, expect, it } from 'vitest';
import { equalBytes } from '../../src/core/index.ts';
import {
  BLK_F_MQ,
  BLK_S_IOERR,
  BLK_S_OK,
  BLK_T_FLUSH,
  BLK_T_IN,
  BLK_T_OUT,
  CONFIG,
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  DescriptorChain,
  F_EVENT_IDX,
  F_IN_ORDER,
  F_INDIRECT_DESC,
  F_NOTIFICATION_DATA,
  F_RING_PACKED,
  F_RING_RESET,
  featureWords,
  hasFeature,
  INTERRUPT_USED,
  QueueFormats,
  REG_CONFIG,
  REG_QUEUE_NOTIFY,
  REG_QUEUE_NUM_MAX,
  REG_QUEUE_READY,
  REG_QUEUE_RESET,
  REG_QUEUE_SEL,
  ringOptions,
  SplitQueue,
} from '../../src/virtio/index.ts';
import { guestQueue, RINGS, type Segment } from './guest-queue.ts';
import { Guest, type GuestOptions, header, LoggingDevice, type Part, pattern, sectorOf } from './harness.ts';

const FLUSH: readonly Part[] = [{ give: header(BLK_T_FLUSH) }, { room: 1 }];

/** Writes an indirect table of either format: 16 bytes an entry, as the ring's own descriptors. */
function writeTable(guest: Guest, kind: string, segments: readonly Segment[], spoil = 0): number {
  const table = guest.alloc(16 * segments.length);
  for (const [i, { address, lengthBytes, write }] of segments.entries()) {
    const at = table + 16 * i;
    const last = i + 1 === segments.length;
    guest.memory.writeU64(at, address);
    guest.memory.writeU32(at + 8, lengthBytes);
    const flags = (write ? DESC_F_WRITE : 0) | spoil;
    guest.memory.writeU16(at + (kind === 'split' ? 12 : 14), flags | (kind === 'split' && !last ? DESC_F_NEXT : 0));
    guest.memory.writeU16(at + (kind === 'split' ? 14 : 12), last ? 0 : i + 1);
  }
  return table;
}

describe.each(RINGS)('indirect descriptors, %s ring', (kind) => {
  const up = (options: GuestOptions = {}) => new Guest({ ring: kind, ringBits: [F_INDIRECT_DESC], ...options }).up();

  it.each([0, DESC_F_WRITE])(
    'checklist 5, virtio 2.7.5.3.2, 2.8.7: WRITE on the descriptor that names the table is ignored (flags %d)',
    (flags) => {
      const guest = up();
      const data = pattern(1024, 3);
      const { segments } = guest.lay([{ give: header(BLK_T_OUT, 5) }, { give: data }, { room: 1 }]);
      const id = guest.driver.offerTable(writeTable(guest, kind, segments), 48, flags);
      guest.notify();
      expect(guest.used).toEqual([{ id, lengthBytes: 1 }]);
      expect(sectorOf(guest.backend, 5, 2)).toEqual(data);
      const back = guest.lay([{ give: header(BLK_T_IN, 5) }, { room: 300 }, { room: 725 }]);
      guest.driver.offerTable(writeTable(guest, kind, back.segments), 48, flags);
      guest.notify();
      expect(new Uint8Array(Buffer.concat(back.rooms))).toEqual(new Uint8Array([...data, BLK_S_OK]));
    },
  );

  it('virtio 2.8.7: a table may lie anywhere, aligned or not', () => {
    const guest = up();
    const { segments, rooms } = guest.lay(FLUSH);
    guest.alloc(3);
    guest.driver.offerTable(writeTable(guest, kind, segments), 32);
    guest.notify();
    expect(rooms[0]).toEqual(Uint8Array.of(BLK_S_OK));
  });

  it.each<[string, (guest: Guest) => void]>([
    ['length 0', (guest) => guest.driver.offerTable(0x8000, 0)],
    ['a length that is no multiple of 16', (guest) => guest.driver.offerTable(0x8000, 24)],
    ['a table outside memory', (guest) => guest.driver.offerTable(2 ** 40, 32)],
    ['a table across the end of memory', (guest) => guest.driver.offerTable(0x3fff0, 32)],
    ['a table of 4 GiB', (guest) => guest.driver.offerTable(0x8000, 0xffff_fff0)],
    ['NEXT beside INDIRECT', (guest) => guest.driver.offerTable(0x8000, 32, DESC_F_NEXT)],
    [
      'more descriptors than the queue',
      (guest) => {
        const segments = Array.from({ length: 17 }, () => ({ address: 0x8000, lengthBytes: 16, write: false }));
        guest.driver.offerTable(writeTable(guest, kind, segments), 16 * 17);
      },
    ],
  ])('%s breaks the ring', (_name, hurt) => {
    const backend = new LoggingDevice();
    const guest = up({ backend });
    hurt(guest);
    guest.notify();
    expect(guest.needsReset).toBe(true);
    expect(guest.used).toEqual([]);
    expect(backend.take()).toEqual([]);
    expect(guest.up().send(FLUSH).status).toBe(BLK_S_OK);
  });

  it('a table that names another: split breaks, packed ignores the reserved flag (virtio 2.7.5.3.1, 2.8.7)', () => {
    const guest = up();
    const { segments } = guest.lay(FLUSH);
    guest.driver.offerTable(writeTable(guest, kind, segments, DESC_F_INDIRECT), 32);
    guest.notify();
    expect(guest.needsReset).toBe(kind === 'split');
    expect(guest.used).toHaveLength(kind === 'split' ? 0 : 1);
  });

  it('a table that names itself, and one that is the ring: nothing hangs', () => {
    const guest = up();
    const table = guest.alloc(32);
    guest.memory.writeU64(table, table);
    guest.memory.writeU32(table + 8, 32);
    guest.memory.writeU16(table + 12, DESC_F_INDIRECT);
    guest.memory.writeU16(table + 14, DESC_F_INDIRECT);
    guest.driver.offerTable(table, 32);
    guest.notify();
    guest.up();
    guest.driver.offerTable(guest.queue.desc, 32);
    guest.notify();
    expect(guest.up().send(FLUSH).status).toBe(BLK_S_OK);
  });
});

describe('indirect descriptors, split ring', () => {
  it('checklist 6, virtio 2.7.5.3.2: direct descriptors may be followed by one indirect one', () => {
    const guest = new Guest({ ringBits: [F_INDIRECT_DESC] }).up();
    const data = pattern(512, 4);
    const { segments } = guest.lay([{ give: header(BLK_T_OUT, 6) }, { give: data }, { room: 1 }]);
    const [first, ...rest] = segments as [Segment, ...Segment[]];
    const table = writeTable(guest, 'split', rest);
    guest.ring.setDescriptor(0, { ...first, flags: DESC_F_NEXT, next: 1 });
    guest.ring.setDescriptor(1, { address: table, lengthBytes: 32, flags: DESC_F_INDIRECT });
    guest.ring.offer(0);
    guest.notify();
    expect(guest.used).toEqual([{ id: 0, lengthBytes: 1 }]);
    expect(sectorOf(guest.backend, 6)).toEqual(data);
  });

  it('a chain leads past its table, not past the ring: it breaks', () => {
    const guest = new Guest({ ringBits: [F_INDIRECT_DESC] }).up();
    const { segments } = guest.lay(FLUSH);
    const table = writeTable(guest, 'split', segments);
    guest.memory.writeU16(table + 14, 2);
    guest.driver.offerTable(table, 32);
    guest.notify();
    expect(guest.needsReset).toBe(true);
  });
});

describe('EVENT_IDX, split ring', () => {
  const up = () => new Guest({ ringBits: [F_EVENT_IDX] }).up();

  it('checklist 10, virtio 2.7.7.2: the low bit of the avail flags is ignored', () => {
    const guest = up();
    guest.ring.setAvailFlags(1);
    guest.send(FLUSH);
    expect(guest.takeInterrupt()).toBe(INTERRUPT_USED);
  });

  it('checklist 11 and 12, virtio 2.7.7.2: it notifies when the entry of used_event was written, and only then', () => {
    for (const event of [0, 1, 5, 0xffff]) {
      const guest = up();
      guest.ring.setUsedEvent(event);
      const told = Array.from({ length: 8 }, () => {
        guest.send(FLUSH);
        return guest.takeInterrupt();
      });
      expect(told).toEqual(told.map((_, i) => (i === event ? INTERRUPT_USED : 0)));
    }
  });

  it('checklist 11, virtio 2.7.7.2: a batch that went over used_event is notified, one that did not is not', () => {
    for (const [event, expected] of [
      [1, INTERRUPT_USED],
      [2, INTERRUPT_USED],
      [3, 0],
      [0xffff, 0],
    ] as const) {
      const guest = up();
      guest.ring.setUsedEvent(event);
      for (let i = 0; i < 3; i++) guest.offer(FLUSH);
      guest.notify();
      expect(guest.used).toHaveLength(3);
      expect(guest.takeInterrupt()).toBe(expected);
    }
  });

  it('checklist 16, virtio 2.7.10.2: used flags are 0, and avail_event asks for the next request', () => {
    const guest = new Guest({ ringBits: [F_EVENT_IDX] });
    guest.negotiate();
    guest.memory.writeU16(guest.queue.device, 0xbeef);
    guest.setUpQueue();
    guest.driverOk();
    for (let i = 1; i < 20; i++) {
      guest.send(FLUSH);
      expect(guest.ring.usedFlags).toBe(0);
      expect(guest.ring.availEvent).toBe(i);
    }
  });

  it('virtio 2.7.10.2: a whole queue of requests leaves no driver waiting for a notification that it does not send', () => {
    const guest = new Guest({ ringBits: [F_EVENT_IDX], queueSize: 4 }).up();
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 2; i++) guest.offer(FLUSH);
      guest.notify();
      expect(guest.ring.availEvent).toBe(guest.ring.availIndex);
    }
  });
});

describe('EVENT_IDX, packed ring', () => {
  const up = (queueSize = 8) => new Guest({ ring: 'packed', ringBits: [F_EVENT_IDX], queueSize }).up();

  it('checklist 10 to 12, virtio 2.8.10: it notifies when the descriptor of the event was used, in its turn', () => {
    // Each flush takes two of eight descriptors: it is used at 0, 2, 4, 6, and then in the other turn.
    for (const [position, at] of [
      [0x8000, 0],
      [0x8002, 1],
      [0x8006, 3],
      [0x0000, 4],
      [0x0004, 6],
      [0x8001, 0],
    ] as const) {
      const guest = up();
      guest.packed.setDriverEvent(position, 2);
      const told = Array.from({ length: 7 }, () => {
        guest.send(FLUSH);
        return guest.takeInterrupt();
      });
      expect(told).toEqual(told.map((_, i) => (i === at ? INTERRUPT_USED : 0)));
    }
  });

  it('checklist 16, virtio 2.8.10: it asks for the next request by its place and turn', () => {
    const guest = up();
    const asked = Array.from({ length: 5 }, () => {
      guest.send(FLUSH);
      expect(guest.packed.deviceEventFlags).toBe(2);
      return guest.packed.deviceEventPosition;
    });
    expect(asked).toEqual([0x8002, 0x8004, 0x8006, 0, 2]);
  });
});

describe.each(RINGS)('IN_ORDER, %s ring', (kind) => {
  const up = (options: GuestOptions = {}) => new Guest({ ring: kind, ringBits: [F_IN_ORDER], ...options }).up();

  it('checklist 75, virtio 2.7.9, 2.8.8: buffers are used in the order in which they came, a run of them in one entry', () => {
    const backend = new LoggingDevice();
    const guest = up({ backend });
    const ids = [5, 3, 4].map(
      (sector) => guest.offer([{ give: header(BLK_T_OUT, sector) }, { give: pattern(512, 1) }, { room: 1 }]).id,
    );
    guest.notify();
    expect(backend.take()).toEqual(['write 5+1', 'write 3+1', 'write 4+1']);
    const first = kind === 'split' ? guest.ring.usedId(0) : guest.packed.id(0);
    expect(first).toBe(ids[2]);
    if (kind === 'split') expect(guest.ring.usedIndex).toBe(3);
    else expect(guest.packed.flags(3)).toBe(0x80 | DESC_F_NEXT);
  });

  it('virtio 2.7.9, 2.8.8: what was not written completely is not skipped', () => {
    const guest = up();
    const failed = guest.offer([{ give: header(BLK_T_IN, 64) }, { room: 513 }]);
    const good = guest.offer([{ give: header(BLK_T_IN, 0) }, { room: 513 }]);
    guest.notify();
    expect(guest.used).toEqual([
      { id: failed.id, lengthBytes: 0 },
      { id: good.id, lengthBytes: 513 },
    ]);
    expect(failed.rooms[0]?.at(-1)).toBe(BLK_S_IOERR);
  });

  it('virtio 2.7.9: the next batch is behind the one before', () => {
    const guest = up();
    for (let i = 0; i < 40; i++) {
      guest.recycle();
      guest.offer(FLUSH);
      guest.notify();
      expect(guest.used).toHaveLength(i + 1);
    }
  });
});

describe.each(RINGS)('RING_RESET, %s ring', (kind) => {
  const up = (options: GuestOptions = {}) => new Guest({ ring: kind, ringBits: [F_RING_RESET], ...options }).up();

  it('checklist 32 and 33, virtio 4.2.2.1: QueueReset reads 0 after a device reset, and after the queue is enabled', () => {
    const guest = up();
    expect(guest.read(REG_QUEUE_RESET)).toBe(0);
    guest.write(REG_QUEUE_RESET, 1);
    guest.driver.clear();
    guest.setUpQueue();
    expect([guest.read(REG_QUEUE_RESET), guest.read(REG_QUEUE_READY)]).toEqual([0, 1]);
    guest.write(0x70, 0);
    expect(guest.read(REG_QUEUE_RESET)).toBe(0);
  });

  it('checklist 34 and 36, virtio 4.2.2.1: writing 1 resets the queue, and then both registers read 0', () => {
    const guest = up();
    guest.offer(FLUSH);
    guest.write(REG_QUEUE_RESET, 0);
    expect(guest.read(REG_QUEUE_READY)).toBe(1);
    guest.write(REG_QUEUE_RESET, 1);
    expect([guest.read(REG_QUEUE_RESET), guest.read(REG_QUEUE_READY)]).toEqual([0, 0]);
    const before = guest.bytes.slice();
    guest.notify();
    expect(equalBytes(guest.bytes, before)).toBe(true);
  });

  it('checklist 35, virtio 4.2.2.1: while a request is under way QueueReset reads 1, and the queue is not enabled', () => {
    const seen: number[][] = [];
    const backend = new LoggingDevice();
    const guest = up({ backend });
    backend.flush = () => {
      guest.write(REG_QUEUE_RESET, 1);
      guest.write(REG_QUEUE_READY, 1);
      seen.push([guest.read(REG_QUEUE_RESET), guest.read(REG_QUEUE_READY)]);
    };
    guest.offer(FLUSH);
    guest.offer(FLUSH);
    guest.notify();
    expect(seen).toEqual([[1, 0]]);
    expect([guest.read(REG_QUEUE_RESET), guest.read(REG_QUEUE_READY)]).toEqual([0, 0]);
    expect(guest.used).toEqual([]);
    expect(guest.read(0x60)).toBe(0);
  });

  it('checklist 73, virtio 2.6.1: a queue that was reset executes nothing that it had taken, and notifies nothing', () => {
    const backend = new LoggingDevice();
    const guest = up({ backend, device: { choices: { choose: () => 0 } } });
    const flush = backend.flush.bind(backend);
    backend.flush = () => {
      flush();
      guest.write(REG_QUEUE_RESET, 1);
    };
    for (let i = 0; i < 3; i++) guest.offer(FLUSH);
    guest.notify();
    expect(backend.take()).toEqual(['flush']);
    expect(guest.used).toEqual([]);
    expect(guest.read(0x60)).toBe(0);
  });

  it('checklist 73, virtio 2.6.1.2: on re-enabling it observes its new configuration, while the device is live', () => {
    const guest = up({ queueSize: 16 });
    guest.send(FLUSH);
    guest.write(REG_QUEUE_RESET, 1);
    const moved = guestQueue(kind, guest.memory, 0x2000, 4);
    guest.setUpQueue(moved.addresses);
    moved.clear();
    const { segments, rooms } = guest.lay(FLUSH);
    moved.offer(segments);
    guest.notify();
    expect(moved.takeUsed()?.lengthBytes).toBe(1);
    expect(rooms[0]).toEqual(Uint8Array.of(BLK_S_OK));
    expect(guest.needsReset).toBe(false);
  });

  it('a queue that is set up falsely again needs a reset of the device', () => {
    const guest = up();
    guest.write(REG_QUEUE_RESET, 1);
    guest.setUpQueue({ ...guest.queue, size: 0 });
    expect(guest.needsReset).toBe(true);
    guest.write(REG_QUEUE_RESET, 1);
    guest.setUpQueue();
    expect(guest.needsReset).toBe(true);
  });
});

describe.each(RINGS)('several queues, %s ring', (kind) => {
  it('virtio 5.2.2, 5.2.4: num_queues says how many; without MQ there is one', () => {
    const guest = new Guest({ ring: kind, device: { queueCount: 3 } });
    expect(hasFeature(guest.offered, BLK_F_MQ)).toBe(true);
    expect(guest.transport.read(REG_CONFIG + CONFIG.numQueues, 2)).toBe(3);
    for (const [bits, sizes] of [
      [undefined, [128, 128, 128, 0]],
      [[], [128, 0, 0, 0]],
    ] as const) {
      guest.up(bits);
      const seen = [0, 1, 2, 3].map((index) => {
        guest.write(REG_QUEUE_SEL, index);
        return guest.read(REG_QUEUE_NUM_MAX);
      });
      expect(seen).toEqual(sizes);
    }
  });

  it('each queue is served by itself, when it is notified', () => {
    const guest = new Guest({ ring: kind, device: { queueCount: 3 } });
    guest.negotiate();
    const queues = [0, 1, 2].map((index) => guestQueue(kind, guest.memory, 0x1000 + index * 0x800, 8));
    for (const [index, queue] of queues.entries()) {
      queue.clear();
      guest.setUpQueue(queue.addresses, index);
    }
    guest.driverOk();
    for (const queue of queues) queue.offer(guest.lay(FLUSH).segments);
    for (const index of [2, 0, 1]) {
      guest.notify(index);
      expect(queues.map((queue) => queue.takeUsed() !== undefined)).toEqual([0, 1, 2].map((i) => i === index));
      expect(guest.takeInterrupt()).toBe(INTERRUPT_USED);
    }
  });
});

describe.each(RINGS)('NOTIFICATION_DATA, %s ring', (kind) => {
  it('virtio 2.9: the queue is in the lower half, and what is above is advice', () => {
    const guest = new Guest({ ring: kind, ringBits: [F_NOTIFICATION_DATA] }).up();
    for (const data of [0, 1, 0x7fff, 0xffff]) {
      guest.offer(FLUSH);
      const before = guest.used.length;
      guest.write(REG_QUEUE_NOTIFY, data * 0x1_0000 + 1);
      expect(guest.used).toHaveLength(before);
      guest.write(REG_QUEUE_NOTIFY, data * 0x1_0000);
      expect(guest.used).toHaveLength(before + 1);
    }
  });
});

describe.each(RINGS)('a queue without registers, %s ring', (kind) => {
  const features = featureWords(kind === 'packed' ? [F_RING_PACKED] : []);

  it('goes on where another stopped, and takes and gives nothing twice', () => {
    const guest = new Guest({ ring: kind }).up();
    const served: number[] = [];
    let position: { avail: number; used?: number } | undefined;
    for (let round = 0; round < 30; round++) {
      const queue = new QueueFormats(guest.memory, 16).negotiated(features);
      queue.enable(guest.queue, ringOptions(features), position);
      guest.recycle();
      const ids = [guest.offer(FLUSH).id, guest.offer(FLUSH).id];
      const chain = new DescriptorChain(guest.memory);
      while (queue.pop(chain)) {
        served.push(chain.id);
        queue.push(chain, 1);
      }
      expect(queue.publish()).toBe(true);
      expect(guest.used.slice(-2).map(({ id }) => id)).toEqual(ids);
      expect(served.slice(-2)).toEqual(ids);
      position = queue.position;
      if (round % 2 === 1) position = { avail: position.avail };
    }
    expect(served).toHaveLength(60);
  });

  it('a position outside the ring breaks it, where there is such a thing', () => {
    const guest = new Guest({ ring: kind }).up();
    const queue = new QueueFormats(guest.memory, 16).negotiated(features);
    queue.enable(guest.queue, ringOptions(features), { avail: 16, used: 16 });
    expect(queue.broken === undefined).toBe(kind === 'split');
  });
});

describe('a split queue whose device died', () => {
  it('popAgain takes what was taken and not given back', () => {
    const guest = new Guest().up();
    const ids = [0, 1, 2].map(() => guest.offer(FLUSH).id);
    const died = new SplitQueue(guest.memory, 16);
    died.enable(guest.queue);
    const chains = ids.map(() => new DescriptorChain(guest.memory));
    for (const chain of chains) expect(died.pop(chain)).toBe(true);
    died.push(chains[1]!, 1);
    const next = new SplitQueue(guest.memory, 16);
    next.enable(guest.queue, undefined, { avail: died.position.avail });
    for (const id of [ids[0]!, ids[2]!]) {
      const chain = new DescriptorChain(guest.memory);
      expect(next.popAgain(chain, id)).toBe(true);
      expect(chain.readable.totalBytes).toBe(16);
      next.push(chain, 1);
    }
    expect(guest.used.map(({ id }) => id)).toEqual([ids[1], ids[0], ids[2]]);
    expect(next.popAgain(chains[0]!, 16)).toBe(false);
    expect(next.broken).toBeDefined();
  });
});
