import { crc32 } from 'node:zlib';
import type { BlockDevice } from '../../src/blockdev/index.ts';
import { type KeyValueContent, type KeyValueOp, KeyValueOracle, type Scenario } from '../../src/explore/index.ts';

const SECTOR = 512;

function sectorOf(...words: number[]): Uint8Array {
  const bytes = new Uint8Array(SECTOR);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of words.entries()) view.setUint32(i * 4, word);
  return bytes;
}

function wordsAt(device: BlockDevice, sector: number): DataView {
  const bytes = new Uint8Array(SECTOR);
  device.read(sector, bytes);
  return new DataView(bytes.buffer);
}

export type RegisterDefect = 'none' | 'no flush before commit' | 'no checksum' | 'acknowledged before the flush';

/**
 * A register of two sectors, written through a redo log: payload in 0 and 1, commit record in 2, home in 3 and 4.
 * Ordered: a flush between payload and commit. Checksummed: the commit record covers the payload instead.
 */
export function register(mode: 'ordered' | 'checksummed', defect: RegisterDefect = 'none'): Scenario<number, number> {
  const payloadOf = (value: number) => [sectorOf(value, 1), sectorOf(value, 2)] as const;
  const sumOf = (a: Uint8Array, b: Uint8Array) => crc32(b, crc32(a));
  function apply(device: BlockDevice) {
    const commit = wordsAt(device, 2);
    if (commit.getUint32(0) !== 0xc0441) return;
    const payload = new Uint8Array(2 * SECTOR);
    device.read(0, payload);
    if (mode === 'checksummed' && defect !== 'no checksum' && commit.getUint32(4) !== crc32(payload)) return;
    device.write(3, payload);
    device.flush();
    device.write(2, sectorOf(0));
    device.flush();
  }
  return {
    name: `register, ${mode}, ${defect}`,
    disk: { sectorCount: 8 },
    format(device) {
      for (const [i, bytes] of payloadOf(0).entries()) device.write(3 + i, bytes);
    },
    workload(device, run) {
      for (let value = 1; value <= 3; value++) {
        run.begin(value);
        const [a, b] = payloadOf(value);
        device.write(0, a);
        device.write(1, b);
        if (mode === 'ordered' && defect !== 'no flush before commit') device.flush();
        device.write(2, sectorOf(0xc0441, sumOf(a, b)));
        if (defect === 'acknowledged before the flush') run.acknowledge(value);
        device.flush();
        if (defect !== 'acknowledged before the flush') run.acknowledge(value);
        apply(device);
      }
    },
    recover(device) {
      apply(device);
      const [a, b] = [wordsAt(device, 3), wordsAt(device, 4)];
      if (a.getUint32(0) !== b.getUint32(0) || a.getUint32(4) !== 1 || b.getUint32(4) !== 2)
        throw new Error('torn home');
      return a.getUint32(0);
    },
    invariant(value, history) {
      let oldest = 0;
      let newest = 0;
      for (const event of history) {
        if (event.kind === 'begin') newest = event.op;
        if (event.kind === 'acknowledge') oldest = event.op;
        if (event.kind === 'observe') [oldest, newest] = [event.observation, event.observation];
      }
      if (value < oldest || value > newest) throw new Error(`expected ${oldest} to ${newest}, got ${value}`);
    },
    describe: (value) => `set ${value}`,
  };
}

/** A counter in sector 1; the log in sector 0 is applied by recovery only. Sound: the log holds the sum, not the step. */
export function counter(idempotent: boolean): Scenario<string, number> {
  return {
    name: `counter, ${idempotent ? 'idempotent' : 'not idempotent'}`,
    disk: { sectorCount: 8 },
    format(device) {
      device.write(1, sectorOf(5));
    },
    workload(device, run) {
      run.begin('add 3');
      device.write(0, sectorOf(1, idempotent ? 8 : 3));
      device.flush();
      run.acknowledge('add 3');
    },
    recover(device) {
      const log = wordsAt(device, 0);
      if (log.getUint32(0) === 1) {
        const value = log.getUint32(4);
        device.write(1, sectorOf(idempotent ? value : wordsAt(device, 1).getUint32(0) + value));
        device.flush();
        device.write(0, sectorOf(0));
        device.flush();
      }
      return wordsAt(device, 1).getUint32(0);
    },
    invariant(value, history) {
      const kinds = new Set(history.events.map((event) => event.kind));
      const allowed = [...(kinds.has('acknowledge') ? [] : [5]), ...(kinds.has('begin') ? [8] : [])];
      if (!allowed.includes(value)) throw new Error(`expected ${allowed.join(' or ')}, got ${value}`);
    },
  };
}

/**
 * A log of one-sector records {sequence, key, value, checksum}, which ends at the first record that is not the next.
 * A recovery reports, then appends. Sound: it makes durable that nothing follows, before it appends.
 */
export function recordLog(sound: boolean): Scenario<KeyValueOp, KeyValueContent> {
  const oracle = new KeyValueOracle();
  const record = (sequence: number, key: number) => {
    const bytes = sectorOf(sequence, key);
    new DataView(bytes.buffer).setUint32(508, crc32(bytes.subarray(0, 508)));
    return bytes;
  };
  const put = (key: number): KeyValueOp => ({ kind: 'put', key: String(key), value: Uint8Array.of(key) });
  function append(device: BlockDevice, at: number, keys: readonly number[]) {
    for (const [i, key] of keys.entries()) device.write(at + i, record(at + i + 1, key));
  }
  function read(device: BlockDevice): number[] {
    const keys: number[] = [];
    for (let sector = 0; sector < device.sectorCount; sector++) {
      const words = wordsAt(device, sector);
      const sum = crc32(new Uint8Array(words.buffer, 0, 508));
      if (words.getUint32(0) !== sector + 1 || words.getUint32(508) !== sum) break;
      keys.push(words.getUint32(4));
    }
    return keys;
  }
  return {
    name: `record log, ${sound ? 'sound' : 'resurrecting'}`,
    disk: { sectorCount: 8 },
    format() {},
    workload(device, run) {
      const ops = [put(1), put(2)];
      for (const op of ops) run.begin(op);
      append(device, 0, [1, 2]);
      device.flush();
      for (const op of ops) run.acknowledge(op);
    },
    recover(device, run) {
      const keys = read(device);
      const found = new Map(keys.map((key) => [String(key), Uint8Array.of(key)]));
      if (sound) {
        device.writeZeroes(keys.length, device.sectorCount - keys.length);
        device.flush();
      }
      run.observe(found);
      if (keys.length > 2) return undefined;
      const op = put(3 + keys.length);
      run.begin(op);
      append(device, keys.length, [3 + keys.length]);
      device.flush();
      run.acknowledge(op);
      return undefined;
    },
    invariant: (content, history) => oracle.check(content, history),
    describe: (op) => (op.kind === 'transaction' ? 'transaction' : `${op.kind} ${op.key}`),
  };
}
