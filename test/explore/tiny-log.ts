import { crc32 } from 'node:zlib';
import type { Scenario } from '../../src/explore/index.ts';

/**
 * The tiny log of the design's prototype: frames of a few sectors {magic, type, sequence, index, count, length, crc},
 * temp frames, flush, commit frame, flush. Each put's value is filled with its number.
 */
export interface TinyLogOptions {
  readonly frameSectors: number;
  readonly valueBytes: number;
  readonly putCount: number;
}

const SECTOR = 512;

function frame(type: number, sequence: number, sectors: number, payload: Uint8Array, index: number, count: number) {
  const bytes = new Uint8Array(sectors * SECTOR);
  const view = new DataView(bytes.buffer);
  for (const [i, v] of [0xfeedbeef, type, sequence, index, count, payload.length].entries()) view.setUint32(i * 4, v);
  bytes.set(payload, 32);
  view.setUint32(28, crc32(bytes));
  return bytes;
}

export function tinyLog(options: TinyLogOptions): Scenario<number, number> {
  const { frameSectors, valueBytes, putCount } = options;
  const room = frameSectors * SECTOR - 32;
  const frameCount = Math.ceil(valueBytes / room);
  const bytes = new Uint8Array(frameSectors * SECTOR);
  const whole = new DataView(bytes.buffer);
  return {
    name: 'tiny-log',
    disk: { sectorCount: putCount * (frameCount * frameSectors + 1) + frameSectors },
    format() {},
    workload(device, run) {
      let head = 0;
      let sequence = 1;
      for (let put = 1; put <= putCount; put++) {
        run.begin(put);
        const value = new Uint8Array(valueBytes).fill(put);
        for (let i = 0; i < frameCount; i++, head += frameSectors) {
          device.write(
            head,
            frame(1, sequence++, frameSectors, value.subarray(i * room, (i + 1) * room), i, frameCount),
          );
        }
        device.flush();
        device.write(head++, frame(2, sequence++, 1, new Uint8Array(0), 0, frameCount));
        device.flush();
        run.acknowledge(put);
      }
    },
    recover(device) {
      let committed = 0;
      let first = 0;
      let parts = 0;
      for (let sector = 0, sequence = 1; sector + frameSectors <= device.sectorCount; sequence++) {
        const head = bytes.subarray(0, SECTOR);
        device.read(sector, head);
        if (whole.getUint32(0) !== 0xfeedbeef || whole.getUint32(8) !== sequence) break;
        const sectors = whole.getUint32(4) === 1 ? frameSectors : 1;
        for (let i = 1; i < sectors; i++) device.read(sector + i, bytes.subarray(i * SECTOR, (i + 1) * SECTOR));
        const crc = whole.getUint32(28);
        whole.setUint32(28, 0);
        if (crc32(bytes.subarray(0, sectors * SECTOR)) !== crc) break;
        if (whole.getUint32(4) === 1) {
          if (parts++ === 0) first = bytes[32]!;
        } else {
          committed = first;
          parts = 0;
        }
        sector += sectors;
      }
      return committed;
    },
    invariant(committed, history) {
      let acknowledged = 0;
      let begun = 0;
      for (let at: typeof history | undefined = history; at?.last !== undefined; at = at.previous) {
        if (at.last.kind === 'acknowledge') acknowledged = Math.max(acknowledged, at.last.op);
        if (at.last.kind === 'begin') begun = Math.max(begun, at.last.op);
      }
      if (committed < acknowledged || committed > begun) {
        throw new Error(`expected put ${acknowledged} to ${begun}, got ${committed}`);
      }
    },
  };
}
