import { describe, expect, test } from 'vitest';
import {
  type BlockDevice,
  MemoryDevice,
  PartitionView,
  ReadOnlyView,
  type TraceEvent,
  TracingDevice,
} from '../../src/blockdev/index.ts';
import { codeOf } from '../../src/core/index.ts';

function codeThrown(run: () => unknown): string | undefined {
  try {
    run();
  } catch (error) {
    return error instanceof TypeError ? 'TypeError' : codeOf(error);
  }
  return undefined;
}

function firstByte(device: BlockDevice, sector: number): number | undefined {
  const target = new Uint8Array(device.sectorBytes);
  device.read(sector, target);
  return target[0];
}

const sector = (byte: number) => new Uint8Array(512).fill(byte);

describe('PartitionView', () => {
  test('shifts addresses, and touches nothing outside itself', () => {
    const disk = new MemoryDevice({ sectorCount: 32 });
    for (let i = 0; i < 32; i++) disk.write(i, sector(100 + i));
    const part = new PartitionView(disk, 8, 8);
    part.write(0, sector(1));
    part.writeZeroes(1, 2);
    part.discard(7, 1);
    expect(firstByte(part, 3)).toBe(111);
    const bytes = Array.from({ length: 32 }, (_, i) => firstByte(disk, i));
    const expected = bytes.map((_, i) => 100 + i);
    expected.splice(8, 3, 1, 0, 0);
    expected[15] = 0;
    expect(bytes).toEqual(expected);
  });

  test('every range over its end is EINVAL though the disk goes on', () => {
    const part = new PartitionView(new MemoryDevice({ sectorCount: 32 }), 8, 8);
    expect(codeThrown(() => part.write(8, sector(1)))).toBe('EINVAL');
    expect(codeThrown(() => part.read(7, new Uint8Array(1024)))).toBe('EINVAL');
    expect(codeThrown(() => part.read(-1, new Uint8Array(512)))).toBe('EINVAL');
    expect(codeThrown(() => part.discard(0, 9))).toBe('EINVAL');
    expect(codeThrown(() => part.writeZeroes(7, 2))).toBe('EINVAL');
  });

  test('a range outside the disk is EINVAL', () => {
    const disk = new MemoryDevice({ sectorCount: 32 });
    expect(codeThrown(() => new PartitionView(disk, 0, 33))).toBe('EINVAL');
    expect(codeThrown(() => new PartitionView(disk, 32, 1))).toBe('EINVAL');
    expect(codeThrown(() => new PartitionView(disk, 0, 0))).toBe('EINVAL');
    expect(codeThrown(() => new PartitionView(disk, '0' as never, 1))).toBe('TypeError');
  });

  test('it shares no physical sector with its neighbours', () => {
    const disk = new MemoryDevice({ sectorCount: 36, physicalSectorBytes: 4096 });
    expect(codeThrown(() => new PartitionView(disk, 4, 8))).toBe('EINVAL');
    expect(codeThrown(() => new PartitionView(disk, 8, 4))).toBe('EINVAL');
    expect(new PartitionView(disk, 8, 16).physicalSectorBytes).toBe(4096);
    // The end of the disk has no neighbour.
    expect(new PartitionView(disk, 8, 28).sectorCount).toBe(28);
  });

  test('closing it leaves the disk open', () => {
    const disk = new MemoryDevice({ sectorCount: 32 });
    new PartitionView(disk, 0, 16).close();
    disk.write(0, sector(1));
  });
});

describe('ReadOnlyView', () => {
  test('shows what the disk holds now', () => {
    const disk = new MemoryDevice({ sectorCount: 16 });
    const view = new ReadOnlyView(disk);
    expect(view.readOnly).toBe(true);
    disk.write(3, sector(9));
    expect(firstByte(view, 3)).toBe(9);
    expect(codeThrown(() => (view as BlockDevice).write(3, sector(1)))).toBe('EROFS');
    view.close();
    expect(firstByte(disk, 3)).toBe(9);
  });
});

describe('TracingDevice', () => {
  function traced(): { device: TracingDevice; events: TraceEvent[] } {
    const events: TraceEvent[] = [];
    const device = new TracingDevice(new MemoryDevice({ sectorCount: 16 }), (event) => events.push(event));
    return { device, events };
  }

  test('reports each operation: what, where, and how', () => {
    const { device, events } = traced();
    device.write(2, new Uint8Array(1024), { fua: true });
    device.write(4, sector(1));
    device.read(0, new Uint8Array(2048));
    device.flush();
    device.discard(5, 3);
    device.writeZeroes(6, 4, { unmap: true });
    device.writeZeroes(6, 4);
    device.close();
    const plain = { fua: false, unmap: false, errorCode: undefined };
    expect(events).toEqual([
      { ...plain, sequence: 0, kind: 'write', sector: 2, sectorCount: 2, fua: true },
      { ...plain, sequence: 1, kind: 'write', sector: 4, sectorCount: 1 },
      { ...plain, sequence: 2, kind: 'read', sector: 0, sectorCount: 4 },
      { ...plain, sequence: 3, kind: 'flush', sector: 0, sectorCount: 0 },
      { ...plain, sequence: 4, kind: 'discard', sector: 5, sectorCount: 3 },
      { ...plain, sequence: 5, kind: 'writeZeroes', sector: 6, sectorCount: 4, unmap: true },
      { ...plain, sequence: 6, kind: 'writeZeroes', sector: 6, sectorCount: 4 },
      { ...plain, sequence: 7, kind: 'close', sector: 0, sectorCount: 0 },
    ]);
    expect(new Set(events.map((event) => Object.keys(event).join())).size).toBe(1);
  });

  test('reports refusals with their code, and passes them on', () => {
    const { device, events } = traced();
    expect(codeThrown(() => device.read(16, new Uint8Array(512)))).toBe('EINVAL');
    expect(codeThrown(() => device.write(0, new Uint8Array(5)))).toBe('EINVAL');
    expect(codeThrown(() => device.discard(0, 17))).toBe('EINVAL');
    expect(codeThrown(() => device.writeZeroes(-1, 1))).toBe('EINVAL');
    device.close();
    expect(codeThrown(() => device.flush())).toBe('ECLOSED');
    expect(events.map(({ kind, errorCode }) => [kind, errorCode])).toEqual([
      ['read', 'EINVAL'],
      ['write', 'EINVAL'],
      ['discard', 'EINVAL'],
      ['writeZeroes', 'EINVAL'],
      ['close', undefined],
      ['flush', 'ECLOSED'],
    ]);
  });

  test('calls with a wrong type are TypeErrors and no events', () => {
    const { device, events } = traced();
    expect(codeThrown(() => device.read(0, undefined as never))).toBe('TypeError');
    expect(codeThrown(() => device.write('0' as never, sector(1)))).toBe('TypeError');
    expect(events).toEqual([]);
  });
});
