import fc from 'fast-check';
import { expect, test } from 'vitest';
import { viewOf } from '../../src/core/index.ts';
import { FrameReader, type RawFrame } from '../../src/statefsd/index.ts';
import { holdProperty } from '../property/replay.ts';

const FILE = 'test/statefsd/frame-reader.test.ts';
const CAP = 8192;
const LARGEST = 100_000;

function frameOf(bytes: number, fill: number): Uint8Array {
  const frame = new Uint8Array(bytes).fill(fill);
  viewOf(frame).setUint32(0, bytes - 4, true);
  return frame;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** Short, for frames of one byte over and over. */
function textOf(frame: Uint8Array): string {
  const isOne = frame.subarray(5).every((byte) => byte === frame[4]);
  return `${frame.length} bytes of ${isOne ? frame[4] : 'a mixture'}, length ${viewOf(frame).getUint32(0, true)}`;
}

function readAll(reader: FrameReader, chunks: readonly Uint8Array[]): RawFrame[] {
  const found: RawFrame[] = [];
  for (const chunk of chunks) {
    reader.push(chunk);
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) found.push(frame);
  }
  return found;
}

test('frames come out as they went in, however the stream is cut', () => {
  const sizes = fc.array(
    fc.oneof(
      fc.integer({ min: 16, max: 300 }),
      fc.integer({ min: CAP - 2, max: CAP }),
      fc.integer({ min: CAP, max: 20_000 }),
    ),
    { maxLength: 8 },
  );
  const cuts = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 9000 })), { minLength: 1 });
  const property = fc.property(sizes, cuts, (lengths, pieces) => {
    const frames = lengths.map((length, i) => frameOf(length, (i + 1) & 0xff));
    const stream = joined(frames);
    const chunks: Uint8Array[] = [];
    for (let at = 0, i = 0; at < stream.length; i++) {
      const size = pieces[i % pieces.length] as number;
      chunks.push(stream.slice(at, at + size));
      at += size;
    }
    const reader = new FrameReader(CAP, LARGEST);
    const expected = frames.map((frame) =>
      frame.length <= CAP ? `frame ${textOf(frame)}` : `oversize ${textOf(frame.subarray(0, 4096))} ${frame.length}`,
    );
    const found = readAll(reader, chunks).map((one) => {
      if (one.kind === 'broken') return one.message;
      return one.kind === 'frame' ? `frame ${textOf(one.bytes)}` : `oversize ${textOf(one.bytes)} ${one.frameBytes}`;
    });
    expect(found).toEqual(expected);
    expect(reader.isPartial).toBe(false);
  });
  holdProperty(FILE, 'frames come out as they went in', property, { numRuns: 200 });
});

test('a length that no frame has ends it, at once', () => {
  for (const length of [0, 11, LARGEST, 0xffff_ffff]) {
    const bytes = new Uint8Array(4);
    viewOf(bytes).setUint32(0, length, true);
    const reader = new FrameReader(CAP, LARGEST);
    reader.push(bytes);
    expect(reader.next()).toMatchObject({ kind: 'broken' });
    reader.push(frameOf(16, 1));
    expect(reader.next()).toBe(undefined);
  }
});

test('what was not taken yet waits, and a frame that has begun shows', () => {
  const reader = new FrameReader(CAP, LARGEST);
  reader.push(joined([frameOf(20, 1), frameOf(30, 2).subarray(0, 7)]));
  expect(reader.next()).toEqual({ kind: 'frame', bytes: frameOf(20, 1) });
  expect(reader.isPartial).toBe(false);
  expect(reader.next()).toBe(undefined);
  expect(reader.isPartial).toBe(true);
  reader.push(frameOf(30, 2).subarray(7));
  expect(reader.next()).toEqual({ kind: 'frame', bytes: frameOf(30, 2) });
  expect(reader.isPartial).toBe(false);
});

test('no memory is taken on the word of a length', () => {
  const lie = new Uint8Array(16);
  viewOf(lie).setUint32(0, 64 * 1024 * 1024, true);
  const before = process.memoryUsage().arrayBuffers;
  const readers = Array.from({ length: 500 }, () => new FrameReader(70_000_000, 70_000_000));
  for (const reader of readers) {
    reader.push(lie.slice());
    expect(reader.next()).toBe(undefined);
    expect(reader.isPartial).toBe(true);
  }
  // 500 lies of 64 MiB each; what arrived is 16 bytes each.
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * 1024 * 1024);
});
