import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { viewOf } from '../../src/core/index.ts';
import { FrameCodec, FrameHeader } from '../../src/statefs/frame.ts';
import { storeGeometry } from '../../src/statefs/geometry.ts';
import {
  entryOf,
  GroupCodec,
  type GroupOperation,
  type GroupPlan,
  type PlannedOperation,
} from '../../src/statefs/group.ts';
import { keyBytesOf } from '../../src/statefs/index-entry.ts';
import {
  FLAG_LAST,
  FLAG_ORDERED,
  FRAME_COMMIT,
  FRAME_TEMP,
  KIND_DELETE,
  KIND_LOST,
  KIND_PUT,
} from '../../src/statefs/layout.ts';
import { PayloadStore } from '../../src/statefs/payload.ts';
import { readCommitBody, readTempBody } from '../../src/statefs/records.ts';
import { holdProperty } from '../property/replay.ts';
import { bytes, STORE_ID } from './helpers.ts';

const FILE = 'test/statefs/group.test.ts';
const SECTOR_COUNT = 200_000;

interface Item {
  readonly kind: number;
  readonly keyLength: number;
  readonly envelopeBytes: number;
  readonly payloadBytes: number;
}

const item: fc.Arbitrary<Item> = fc.record({
  kind: fc.constantFrom(KIND_PUT, KIND_PUT, KIND_PUT, KIND_DELETE, KIND_LOST),
  keyLength: fc.integer({ min: 10, max: 255 }),
  envelopeBytes: fc.integer({ min: 0, max: 300 }),
  payloadBytes: fc.oneof(fc.nat({ max: 1900 }), fc.integer({ min: 1400, max: 4200 }), fc.nat({ max: 20_000 })),
});

function operationOf({ kind, keyLength, envelopeBytes, payloadBytes }: Item, number: number): GroupOperation {
  const key = `/state/${String(number).padStart(keyLength - 7, 'k')}`;
  const isPut = kind === KIND_PUT;
  return {
    kind,
    key,
    keyBytes: new TextEncoder().encode(key),
    envelope: bytes(isPut ? envelopeBytes : 0, number),
    payloadBytes: isPut ? payloadBytes : 0,
    payload: bytes(isPut ? payloadBytes : 0, number + 1),
    digest: isPut ? bytes(32, number + 2) : new Uint8Array(32),
  };
}

function make(sectorBytes: number, unitBytes: number) {
  const geometry = storeGeometry(sectorBytes, SECTOR_COUNT, unitBytes);
  const codec = new FrameCodec(STORE_ID, sectorBytes);
  const payloads = new PayloadStore(new MemoryDevice({ sectorBytes, sectorCount: SECTOR_COUNT }), codec, geometry);
  return { geometry, codec, payloads, groups: new GroupCodec(codec, geometry, payloads) };
}

const geometries = fc.constantFrom<[number, number]>([512, 512], [512, 4096], [1024, 4096], [4096, 4096]);

describe('a group', () => {
  test('is planned as temp frames, then as few commit frames as hold its entries, then whole units; extents go down', () => {
    const name =
      'is planned as temp frames, then as few commit frames as hold its entries, then whole units; extents go down';
    const items = fc.array(item, { minLength: 1, maxLength: 64, size: 'max' });
    const property = fc.property(geometries, items, fc.nat({ max: 1 }), ([sectorBytes, unitBytes], list, region) => {
      const { geometry, payloads, groups } = make(sectorBytes, unitBytes);
      const { frameSectors, unitSectors } = geometry;
      const frameBytes = frameSectors * sectorBytes;
      const sectorsOf = (bodyBytes: number): number => Math.ceil((64 + bodyBytes) / sectorBytes);
      const operations = list.map(operationOf);
      const start = geometry.regionSectors[region] as number;
      const [sector, floor] = [start + 3 * unitSectors, start + geometry.regionSectorCount - unitSectors];
      const plan = groups.plan(operations, sector, floor, start);
      let offset = 0;
      let lowest = floor;
      for (const [i, planned] of plan.operations.entries()) {
        const { keyBytes, envelope, payloadBytes } = operations[i] as GroupOperation;
        const fixed = 24 + keyBytes.length + envelope.length;
        const isInline = 64 + fixed + payloadBytes <= frameBytes;
        expect(planned.operation).toBe(operations[i]);
        expect([planned.tempOffset, planned.ownSequence]).toEqual([offset, 0]);
        expect(planned.tempBodyBytes).toBe(fixed + (isInline ? payloadBytes : 0));
        expect(planned.tempSectors).toBe(sectorsOf(planned.tempBodyBytes));
        offset += planned.tempSectors;
        if (isInline) {
          expect(planned.extent).toBe(undefined);
          continue;
        }
        const top = lowest - payloads.sectorsFor(payloadBytes);
        lowest = start + Math.floor((top - start) / unitSectors) * unitSectors;
        const extentFrames = Math.ceil(payloadBytes / (frameBytes - 64));
        expect(planned.extent).toEqual({ extentSector: lowest, extentFrames, payloadBytes, sequence: 0, epoch: 0 });
      }
      expect([plan.sector, plan.tempSectors, plan.payloadFloor]).toEqual([sector, offset, lowest]);
      let first = 0;
      for (const commit of plan.commits) {
        const entries = operations.slice(commit.first, commit.first + commit.count);
        const bodyBytes = entries.reduce((sum, { keyBytes }) => sum + 48 + keyBytes.length, 24);
        expect(commit).toMatchObject({ first, offset, sectors: sectorsOf(bodyBytes) });
        expect(64 + bodyBytes).toBeLessThanOrEqual(frameBytes);
        first += commit.count;
        offset += commit.sectors;
        const next = operations[first];
        if (next !== undefined) expect(64 + bodyBytes + 48 + next.keyBytes.length).toBeGreaterThan(frameBytes);
      }
      expect([first, plan.sectors]).toEqual([operations.length, offset]);
      expect(plan.endSector).toBe(sector + Math.ceil(offset / unitSectors) * unitSectors);
    });
    holdProperty(FILE, name, property, { numRuns: 30 });
  });

  test('says in its frames what it was planned and stamped with, and in the index where that stands', () => {
    const name = 'says in its frames what it was planned and stamped with, and in the index where that stands';
    const items = fc.array(item, { minLength: 1, maxLength: 20, size: 'max' });
    const property = fc.property(geometries, items, fc.boolean(), ([sectorBytes, unitBytes], list, isMoved) => {
      const { geometry, codec, groups } = make(sectorBytes, unitBytes);
      const start = geometry.regionSectors[0];
      const made = groups.plan(list.map(operationOf), start, start + geometry.regionSectorCount, start);
      // Records that were moved have the numbers that they always had.
      const numbered = made.operations.map(
        (one, i): PlannedOperation => ({ ...one, ownSequence: isMoved ? i + 1 : 0 }),
      );
      const plan: GroupPlan = { ...made, operations: numbered };
      const stamp = { epoch: 5, sequence: 70, durableSequence: 60, flags: FLAG_ORDERED };
      const staging = bytes((plan.endSector - plan.sector) * sectorBytes);
      const view = viewOf(staging);
      const header = new FrameHeader();
      groups.sealTemps(staging, view, plan, stamp, header);
      groups.sealCommits(staging, view, plan, stamp, header);
      const found = (offset: number): FrameHeader => {
        const at = offset * sectorBytes;
        expect(codec.parse(staging, view, at, plan.sector + offset, header)).toBe(true);
        expect(codec.verify(staging, view, at, header)).toBe(true);
        codec.restore(view, at, header);
        return header;
      };
      const common = { epoch: 5, durableSequence: 60 };
      for (const [index, planned] of plan.operations.entries()) {
        const { operation, tempOffset, tempBodyBytes, extent } = planned;
        const flags = FLAG_ORDERED | (index === plan.operations.length - 1 ? FLAG_LAST : 0);
        const sequence = isMoved ? index + 1 : 70;
        const own = { type: FRAME_TEMP, index, flags, sequence, bodyBytes: tempBodyBytes };
        expect(found(tempOffset)).toMatchObject({ ...common, ...own, windowSectors: plan.sectors - tempOffset });
        const record = readTempBody(staging, view, tempOffset * sectorBytes, tempBodyBytes);
        const { kind, key, payloadBytes, envelope } = operation;
        const where = { extentFrames: extent?.extentFrames ?? 0, extentSector: extent?.extentSector ?? 0 };
        expect(record).toMatchObject({ kind, key, payloadBytes, envelopeBytes: envelope.length, ...where });
        const entry = entryOf(planned, plan.sector, 70, 5);
        if (kind === KIND_DELETE) {
          expect(entry).toBe(undefined);
          continue;
        }
        expect(entry).toEqual({
          ...{ kind, key, sequence, epoch: 5, tempSector: plan.sector + tempOffset, tempBodyBytes, payloadBytes },
          ...{ envelopeOffset: record?.envelopeOffset, envelopeBytes: envelope.length, digest: operation.digest },
          ...where,
        });
        expect(keyBytesOf(entry as NonNullable<typeof entry>)).toBe(operation.keyBytes.length);
        const at = tempOffset * sectorBytes + (record?.envelopeOffset ?? 0);
        expect(staging.slice(at, at + envelope.length)).toEqual(envelope);
        if (extent === undefined) {
          const payload = staging.slice(at + envelope.length, at + envelope.length + payloadBytes);
          expect(Buffer.compare(payload, operation.payload)).toBe(0);
        }
      }
      for (const [index, { first, count, offset }] of plan.commits.entries()) {
        const flags = FLAG_ORDERED | (index === plan.commits.length - 1 ? FLAG_LAST : 0);
        const own = { type: FRAME_COMMIT, index, flags, sequence: 70, windowSectors: plan.sectors - offset };
        const { bodyBytes } = found(offset);
        expect(header).toMatchObject({ ...common, ...own });
        expect(readCommitBody(staging, view, offset * sectorBytes, bodyBytes)).toEqual({
          groupSector: plan.sector,
          payloadFloor: plan.payloadFloor,
          operationCount: list.length,
          firstEntry: first,
          entries: plan.operations.slice(first, first + count).map(({ operation, extent }) => ({
            kind: operation.kind,
            key: operation.key,
            payloadBytes: operation.payloadBytes,
            extentSector: extent?.extentSector ?? 0,
            digest: operation.digest,
          })),
        });
      }
    });
    holdProperty(FILE, name, property, { numRuns: 20 });
  });
});
