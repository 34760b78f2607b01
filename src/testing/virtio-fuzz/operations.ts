import type { Prng } from '../../core/index.ts';
import {
  DESC_F_NEXT,
  DESC_F_WRITE,
  PACKED_F_AVAIL,
  PACKED_F_USED,
  REG_CONFIG,
  REG_QUEUE_NOTIFY,
  REG_QUEUE_NUM,
  REG_QUEUE_READY,
  REG_QUEUE_RESET,
  REG_QUEUE_SEL,
  REG_STATUS,
} from '../../virtio/index.ts';
import { type HostileGuest, QUEUE_SIZE, someFlags } from './hostile-guest.ts';

type Operation = (guest: HostileGuest, prng: Prng) => void;

const TYPES = [0, 1, 4, 8, 10, 11, 13, 14];
const LENGTHS = [0, 1, 6, 15, 16, 17, 20, 21, 32, 48, 512, 513, 1024, 4096, 4097];
const EDGES = [0x7fff, 0x8000, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff];

function edgy(prng: Prng): number {
  switch (prng.below(4)) {
    case 0:
      return EDGES[prng.below(EDGES.length)]!;
    case 1:
      return prng.nextU32();
    default:
      return prng.below(64);
  }
}

function someLength(prng: Prng): number {
  return prng.below(12) === 0 ? edgy(prng) : LENGTHS[prng.below(LENGTHS.length)]!;
}

function someType(prng: Prng): number {
  return prng.below(12) === 0 ? edgy(prng) : TYPES[prng.below(TYPES.length)]!;
}

function writeRegister(guest: HostileGuest, prng: Prng): void {
  const register = prng.below(12) === 0 ? edgy(prng) : 4 * prng.below((REG_CONFIG + 0x60) / 4);
  guest.writeSomewhere(register, edgy(prng), prng.below(8) === 0 ? prng.below(10) : 4);
}

/** The registers that set and reset the queue. */
function writeQueueRegister(guest: HostileGuest, prng: Prng): void {
  const registers = [REG_QUEUE_SEL, REG_QUEUE_NUM, REG_QUEUE_READY, REG_QUEUE_RESET, REG_STATUS];
  guest.writeSomewhere(registers[prng.below(registers.length)]!, prng.below(6) === 0 ? edgy(prng) : prng.below(3), 4);
}

function readRegister(guest: HostileGuest, prng: Prng): void {
  guest.transport.read(
    prng.below(8) === 0 ? edgy(prng) : prng.below(REG_CONFIG + 0x60),
    [1, 2, 4, 4, 4, 3][prng.below(6)]!,
  );
}

function poke(guest: HostileGuest, prng: Prng): void {
  const bytes = new Uint8Array(1 + prng.below(16));
  prng.fill(bytes);
  guest.poke(prng.below(2) === 0 ? guest.base + prng.below(0x600) : guest.address(), bytes);
}

function writeHeader(guest: HostileGuest, prng: Prng): number {
  const at = guest.address();
  guest.pokeU32(at, someType(prng));
  guest.pokeU64(at + 8, prng.below(12) === 0 ? 2 ** prng.below(53) : prng.below(20));
  return at;
}

/** A descriptor anywhere in a ring, or in a table that may be named. */
function describe(guest: HostileGuest, prng: Prng): void {
  const index = prng.below(QUEUE_SIZE);
  const fields = { address: guest.address(), lengthBytes: someLength(prng), flags: someFlags(prng) };
  const queue = prng.below(guest.queueCount);
  if (guest.packed) {
    const turn = [0, PACKED_F_AVAIL, PACKED_F_USED, PACKED_F_AVAIL | PACKED_F_USED][prng.below(4)]!;
    guest.packedRing(queue).setDescriptor(index, { ...fields, flags: fields.flags | turn, id: prng.below(16) });
  } else {
    const next = prng.below(12) === 0 ? prng.below(0x1_0000) : prng.below(QUEUE_SIZE);
    guest.split(queue).setDescriptor(index, { ...fields, next });
  }
}

function offer(guest: HostileGuest, prng: Prng): void {
  const queue = prng.below(guest.queueCount);
  if (guest.packed) {
    guest.packedRing(queue).append(guest.address(), someLength(prng), prng.below(16), someFlags(prng));
    guest.packedRing(queue).offer();
  } else if (prng.below(16) === 0) {
    guest.split(queue).setAvailIndex(prng.below(0x1_0000));
  } else {
    guest.split(queue).offer(prng.below(16) === 0 ? prng.below(0x1_0000) : prng.below(QUEUE_SIZE));
  }
}

/** What each type of request carries: bytes that the device reads, bytes that it writes. */
const SHAPES: Readonly<Record<number, readonly [given: number, room: number]>> = {
  0: [0, 1024],
  1: [1024, 0],
  4: [0, 0],
  8: [0, 20],
  10: [0, 6],
  11: [16, 0],
  13: [32, 0],
  14: [16, 0],
};

interface Segment {
  readonly address: number;
  readonly lengthBytes: number;
  readonly flags: number;
}

/** A request in good order, mostly: header, data, status. */
function segmentsOf(guest: HostileGuest, prng: Prng): Segment[] {
  const type = TYPES[prng.below(TYPES.length)]!;
  const header = guest.address();
  guest.pokeU32(header, type);
  guest.pokeU64(header + 8, prng.below(18));
  const [given, room] = SHAPES[type]!;
  const data = guest.address();
  for (let at = 0; given < 512 && at < given; at += 16) {
    guest.pokeU64(data + at, prng.below(18));
    guest.pokeU32(data + at + 8, prng.below(4));
    guest.pokeU32(data + at + 12, prng.below(8) === 0 ? prng.below(4) : 0);
  }
  const lengthBytes = prng.below(8) === 0 ? someLength(prng) : given + room;
  const segments = [
    { address: header, lengthBytes: 16, flags: DESC_F_NEXT },
    { address: data, lengthBytes, flags: DESC_F_NEXT | (room > 0 ? DESC_F_WRITE : 0) },
    { address: guest.address(), lengthBytes: 1, flags: DESC_F_WRITE },
  ];
  return prng.below(16) === 0 ? segments.slice(prng.below(3)) : segments;
}

function request(guest: HostileGuest, prng: Prng): void {
  const queue = prng.below(guest.queueCount);
  const segments = segmentsOf(guest, prng);
  if (guest.packed) {
    const id = guest.nextRequest();
    for (const { address, lengthBytes, flags } of segments) {
      guest.packedRing(queue).append(address, lengthBytes, id, flags);
    }
    guest.packedRing(queue).offer();
    return;
  }
  const first = 3 * (guest.nextRequest() % 2);
  for (const [i, segment] of segments.entries()) {
    guest.split(queue).setDescriptor(first + i, { ...segment, next: first + i + 1 });
  }
  guest.split(queue).offer(first);
}

/** A request in an indirect table, where that was taken, with a descriptor that names it. */
function table(guest: HostileGuest, prng: Prng): void {
  if (!guest.indirect && prng.below(16) > 0) {
    request(guest, prng);
    return;
  }
  const at = guest.address();
  const segments = segmentsOf(guest, prng);
  const count = segments.length;
  for (const [i, segment] of segments.entries()) {
    guest.pokeU64(at + 16 * i, segment.address);
    guest.pokeU32(at + 16 * i + 8, segment.lengthBytes);
    const flags = prng.below(16) === 0 ? someFlags(prng) : segment.flags;
    guest.pokeU16(at + 16 * i + (guest.packed ? 14 : 12), flags);
    guest.pokeU16(at + 16 * i + (guest.packed ? 12 : 14), i + 1);
  }
  const lengthBytes = 16 * count + (prng.below(16) === 0 ? prng.below(32) : 0);
  const queue = prng.below(guest.queueCount);
  if (guest.packed) {
    guest
      .packedRing(queue)
      .append(at, lengthBytes, guest.nextRequest(), 4 | (prng.below(16) === 0 ? someFlags(prng) : 0));
    guest.packedRing(queue).offer();
  } else {
    const head = guest.nextRequest() % QUEUE_SIZE;
    guest.split(queue).setDescriptor(head, { address: at, lengthBytes, flags: 4 | (prng.below(16) === 0 ? 3 : 0) });
    guest.split(queue).offer(head);
  }
}

function notify(guest: HostileGuest, prng: Prng): void {
  const data = prng.below(4) === 0 ? prng.below(0x1_0000) * 0x1_0000 : 0;
  guest.write(REG_QUEUE_NOTIFY, data + prng.below(guest.queueCount + (prng.below(8) === 0 ? 2 : 0)));
}

/** How often each is taken, in its share of all. */
const SHARES: readonly (readonly [number, Operation])[] = [
  [4, writeRegister],
  [1, writeQueueRegister],
  [3, readRegister],
  [2, poke],
  [2, writeHeader],
  [3, describe],
  [1, offer],
  [20, request],
  [10, table],
  [30, notify],
  [2, (guest) => guest.bringUpSomehow()],
];

const OPERATIONS: readonly Operation[] = SHARES.flatMap(([share, operation]) =>
  Array.from({ length: share }, () => operation),
);

/** Does one hostile thing. A device that is beyond its ring is soon set up again: nothing more happens in it. */
export function operate(guest: HostileGuest, prng: Prng): void {
  if (guest.transport.needsResetWhy !== undefined && prng.below(4) === 0) {
    guest.bringUpSomehow();
    return;
  }
  OPERATIONS[prng.below(OPERATIONS.length)]!(guest, prng);
}
