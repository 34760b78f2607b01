import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { viewOf } from '../../src/core/index.ts';
import { sha256 } from '../../src/envelope/index.ts';
import { FrameCodec, FrameHeader } from '../../src/statefs/frame.ts';
import { storeGeometry } from '../../src/statefs/geometry.ts';
import { FLAG_LAST, FRAME_HEADER_BYTES, FRAME_PAYLOAD, FRAME_TEMP } from '../../src/statefs/layout.ts';
import { type Extent, PayloadStore } from '../../src/statefs/payload.ts';
import { holdProperty } from '../property/replay.ts';
import { bytes, codeThrown, FailingDevice, STORE_ID } from './helpers.ts';

const FILE = 'test/statefs/payload.test.ts';
/** Full frames in what is moved at once. */
const BATCH = 32;
const START = 2304;
const STALE = 0xee;

interface Made {
  readonly device: FailingDevice;
  readonly codec: FrameCodec;
  readonly payloads: PayloadStore;
  readonly frameSectors: number;
  readonly extentOf: (payloadBytes: number, change?: Partial<Extent>) => Extent;
}

function make(sectorBytes: number, unitBytes: number): Made {
  const sectorCount = 8192;
  const inner = new MemoryDevice({ sectorCount, sectorBytes });
  inner.write(START, new Uint8Array(512 * sectorBytes).fill(STALE));
  const device = new FailingDevice(inner);
  const codec = new FrameCodec(STORE_ID, sectorBytes);
  const geometry = storeGeometry(sectorBytes, sectorCount, unitBytes);
  const payloads = new PayloadStore(device, codec, geometry);
  const extentOf = (payloadBytes: number, change: Partial<Extent> = {}): Extent => ({
    extentSector: START,
    extentFrames: payloads.framesFor(payloadBytes),
    payloadBytes,
    sequence: 7,
    epoch: 3,
    ...change,
  });
  return { device, codec, payloads, frameSectors: geometry.frameSectors, extentOf };
}

function readBack({ payloads }: Made, extent: Extent): Uint8Array {
  const target = new Uint8Array(extent.payloadBytes);
  payloads.read(extent, target);
  return target;
}

const geometries = fc.constantFrom<[number, number]>(
  [512, 512],
  [512, 4096],
  [1024, 8192],
  [4096, 4096],
  [512, 65_536],
);

/** A sector of the device. */
function sectorAt({ device }: Made, sector: number): Uint8Array {
  const target = new Uint8Array(device.sectorBytes);
  device.read(sector, target);
  return target;
}

describe('an extent', () => {
  /** Lengths about the edges: of a frame, of a batch, of a unit. */
  const lengths = fc
    .tuple(
      fc.constantFrom(1, 2, 3, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH, 2 * BATCH + 3),
      fc.integer({ min: -2, max: 2 }),
      fc.nat({ max: 1 }),
    )
    .map(([frames, off, part]) => ({ frames, off, part }));

  test('reads back what was written, and so does a copy, in whole units and nowhere else, a batch at a time', () => {
    const name = 'reads back what was written, and so does a copy, in whole units and nowhere else, a batch at a time';
    const property = fc.property(geometries, lengths, ([sectorBytes, unitBytes], { frames, off, part }) => {
      const made = make(sectorBytes, unitBytes);
      const { device, payloads, frameSectors, extentOf } = made;
      const chunkBytes = frameSectors * sectorBytes - FRAME_HEADER_BYTES;
      expect(payloads.chunkBytes).toBe(chunkBytes);
      const payload = bytes(Math.max(1, frames * chunkBytes + off - part * 700), frames);
      const extent = extentOf(payload.length);
      const last = payload.length - (extent.extentFrames - 1) * chunkBytes;
      expect([last >= 1, last <= chunkBytes]).toEqual([true, true]);
      const sectors = (extent.extentFrames - 1) * frameSectors + Math.ceil((FRAME_HEADER_BYTES + last) / sectorBytes);
      expect(payloads.sectorsFor(payload.length)).toBe(sectors);
      const unitSectors = unitBytes / sectorBytes;
      const endSector = START + Math.ceil(sectors / unitSectors) * unitSectors;

      const check = (one: Extent, shift: number): void => {
        expect(Buffer.compare(readBack(made, one), payload)).toBe(0);
        expect(payloads.digest(one)).toEqual(sha256(payload));
        expect(payloads.isWhole(one, () => expect.unreachable())).toBe(true);
        const padding = new Uint8Array((endSector - START - sectors) * sectorBytes);
        if (padding.length > 0) device.read(shift + START + sectors, padding);
        expect(padding.every((byte) => byte === 0)).toBe(true);
      };
      const batches = Math.ceil(extent.extentFrames / (65_536 / (frameSectors * sectorBytes)));
      device.writes = 0;
      let longest = 0;
      const write = device.write.bind(device);
      device.write = (sector, source) => {
        longest = Math.max(longest, source.length);
        write(sector, source);
      };
      payloads.write(extent, payload);
      expect(device.writes).toBe(batches);
      expect(longest).toBeLessThanOrEqual(65_536);
      check(extent, 0);
      expect(sectorAt(made, endSector).every((byte) => byte === STALE)).toBe(true);
      expect(sectorAt(made, START - 1).every((byte) => byte === 0)).toBe(true);

      // A second copy, as compaction makes it, under another epoch.
      const target = extentOf(payload.length, { extentSector: START + 1024 * 2, epoch: 9 });
      const taken: Uint8Array[] = [];
      device.writes = 0;
      for (let frame = 0; frame < extent.extentFrames; ) {
        const chunks: Uint8Array[] = [];
        const count = payloads.copy(extent, target, frame, (chunk) => chunks.push(chunk.slice()));
        expect(chunks.length).toBe(count);
        taken.push(...chunks);
        frame += count;
      }
      expect(device.writes).toBe(batches);
      expect(longest).toBeLessThanOrEqual(65_536);
      expect(Buffer.compare(Buffer.concat(taken), payload)).toBe(0);
      check(target, 1024 * 2);
      check(extent, 0);
      expect(sectorAt(made, endSector + 1024 * 2).every((byte) => byte === 0)).toBe(true);
    });
    holdProperty(FILE, name, property, { numRuns: 10 });
  });

  test('is verified piece by piece, each chunk once and in order', () => {
    const made = make(512, 512);
    const { payloads, extentOf } = made;
    const payload = bytes((BATCH + 5) * payloads.chunkBytes + 9);
    const extent = extentOf(payload.length);
    payloads.write(extent, payload);
    const counts: number[] = [];
    const chunks: Uint8Array[] = [];
    for (let frame = 0; frame < extent.extentFrames; frame += counts.at(-1) as number) {
      counts.push(payloads.verify(extent, frame, (chunk) => chunks.push(chunk.slice())));
    }
    expect(counts).toEqual([BATCH, 6]);
    expect(Buffer.compare(Buffer.concat(chunks), payload)).toBe(0);
  });

  /** A frame of the extent that says something else, sealed as if it were meant. */
  const lies: [string, (header: FrameHeader) => void][] = [
    ['its type', (header) => (header.type = FRAME_TEMP)],
    ['its number', (header) => header.index++],
    ['its length', (header) => header.bodyBytes--],
    ['its group', (header) => header.sequence--],
    ['its life', (header) => header.epoch--],
    ['its place', (header) => header.sector++],
  ];

  test.each(lies)('is damaged where one of its frames lies about %s, and says which', (_what, lie) => {
    for (const frame of [0, 1, 2]) {
      const made = make(512, 512);
      const { device, codec, payloads, extentOf, frameSectors } = made;
      const payload = bytes(2 * payloads.chunkBytes + 100);
      const extent = extentOf(payload.length);
      payloads.write(extent, payload);
      const sector = START + frame * frameSectors;
      const buffer = new Uint8Array(frameSectors * 512);
      device.read(sector, buffer);
      const view = viewOf(buffer);
      const header = new FrameHeader();
      expect(codec.parse(buffer, view, 0, sector, header)).toBe(true);
      expect(header).toEqual({
        type: FRAME_PAYLOAD,
        flags: frame === 2 ? FLAG_LAST : 0,
        bodyBytes: frame === 2 ? 100 : payloads.chunkBytes,
        epoch: 3,
        index: frame,
        sequence: 7,
        sector,
        durableSequence: 0,
        windowSectors: 0,
      });
      codec.restore(view, 0, header);
      lie(header);
      codec.seal(buffer, view, 0, header);
      device.write(sector, buffer);
      expect(codeThrown(() => readBack(made, extent))).toBe('EINTEGRITY');
      expect(() => payloads.digest(extent)).toThrow(`payload frame ${frame} of 3 at sector ${sector} is damaged`);
      expect(() => payloads.copy(extent, extentOf(payload.length, { extentSector: 100 }), 0, () => {})).toThrow(
        `payload frame ${frame} of 3`,
      );
      expect(payloads.isWhole(extent, () => {})).toBe(false);
    }
  });

  test('with any sector of it changed is not whole; what strays there is told, frame by frame', () => {
    for (const unitBytes of [512, 4096]) {
      const made = make(512, unitBytes);
      const { device, payloads, extentOf } = made;
      const payload = bytes(2 * payloads.chunkBytes + 700);
      const extent = extentOf(payload.length);
      payloads.write(extent, payload);
      const stray = extentOf(20, { extentSector: 5000, sequence: 11 });
      payloads.write(stray, bytes(20));
      const frame = sectorAt(made, 5000);
      for (let at = 0; at < payloads.sectorsFor(payload.length); at++) {
        const was = sectorAt(made, START + at);
        device.write(START + at, new Uint8Array(512));
        const told: [number, number, number][] = [];
        const tell = (sector: number, header: FrameHeader) => told.push([sector, header.sector, header.sequence]);
        expect(payloads.isWhole(extent, tell), `sector ${at}`).toBe(false);
        // The first sector of a frame whose rest is bad is a frame in its own place.
        const own = at % 4 === 0 ? [] : [[START + at - (at % 4), START + at - (at % 4), 7]];
        expect(told).toEqual(own);
        device.write(START + at, frame);
        told.length = 0;
        expect(payloads.isWhole(extent, tell)).toBe(false);
        expect(told).toEqual([...own, [START + at, 5000, 11]]);
        device.write(START + at, was);
      }
      expect(payloads.isWhole(extent, () => {})).toBe(true);
    }
  });

  test('that may be torn is read with care: sector by sector of its frames, no further than the first bad one', () => {
    const made = make(512, 512);
    const { device, payloads, extentOf } = made;
    const payload = bytes(2 * payloads.chunkBytes + 700);
    const extent = extentOf(payload.length);
    payloads.write(extent, payload);
    const read: number[] = [];
    device.before = (kind, sector) => kind === 'read' && read.push(sector - START);
    payloads.isWhole(extent, () => {});
    expect(read).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(device.reads).toBe(6);
    device.writeZeroes(START + 4, 1);
    read.length = 0;
    payloads.isWhole(extent, () => {});
    expect(read).toEqual([0, 1, 2, 3, 4]);
    // A frame of one sector has no rest.
    const short = extentOf(100, { extentSector: 5000 });
    payloads.write(short, bytes(100));
    device.reads = 0;
    expect(payloads.isWhole(short, () => {})).toBe(true);
    expect(device.reads).toBe(1);
  });
});
