import fc from 'fast-check';
import type { BlockDevice } from '../../src/blockdev/index.ts';
import type { Run } from '../../src/explore/index.ts';
import { type DiskProfile, profiles } from '../../src/faults/index.ts';

/** Small enough for every image to be built. */
export const SECTORS = 4;

export type Action =
  | { kind: 'write' | 'fua'; sector: number; count: number; value: number }
  | { kind: 'flush' }
  | { kind: 'begin' }
  | { kind: 'end' }
  | { kind: 'discard' | 'writeZeroes'; sector: number };

const sector = fc.nat({ max: SECTORS - 1 });
const write = fc
  .record({
    kind: fc.constantFrom('write' as const, 'fua' as const),
    sector,
    count: fc.integer({ min: 1, max: 2 }),
    value: fc.nat({ max: 2 }),
  })
  .map((w) => ({ ...w, count: Math.min(w.count, SECTORS - w.sector) }));
export const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 6, arbitrary: write.map((w) => ({ ...w, kind: 'write' as const })) },
  { weight: 1, arbitrary: write },
  {
    weight: 2,
    arbitrary: fc.constantFrom({ kind: 'flush' as const }, { kind: 'begin' as const }, { kind: 'end' as const }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('discard' as const, 'writeZeroes' as const), sector }) },
);

/** A recovery that is a function of what it reads: a few steps, each decided by all that was read before. */
export interface Program {
  seed: number;
  stepCount: number;
  writes: boolean;
}
export const program: fc.Arbitrary<Program> = fc.record({
  seed: fc.nat({ max: 1_000_000 }),
  stepCount: fc.integer({ min: 1, max: 5 }),
  writes: fc.boolean(),
});

/** 512 bytes that differ early and late, so that a tear shows. */
function content(value: number): Uint8Array {
  const bytes = new Uint8Array(512).fill(value);
  if (value > 0) bytes[511] = value + 10;
  return bytes;
}

function mix(hash: number, word: number): number {
  return Math.imul(hash ^ word, 0x9e3779b1) ^ (hash >>> 15);
}

export function recover(device: BlockDevice, { seed, stepCount, writes }: Program, run: Run<number>): number {
  const bytes = new Uint8Array(512);
  let hash = seed;
  let probes = 0;
  for (let step = 0; step < stepCount; step++) {
    const at = (hash >>> 4) % SECTORS;
    device.read(at, bytes);
    for (const i of [0, 200, 300, 511]) hash = mix(hash, bytes[i]!);
    if (!writes) continue;
    const kind = (hash >>> 9) % 6;
    if (kind === 0) device.flush();
    else if (kind === 1) device.write((hash >>> 13) % SECTORS, content((hash >>> 17) % 3), { fua: true });
    else if (kind === 2) run.begin(1000 + probes);
    else if (kind < 5) device.write((hash >>> 13) % SECTORS, content((hash >>> 17) % 3));
    if (kind === 2) {
      device.write((hash >>> 13) % SECTORS, content(1));
      run.acknowledge(1000 + probes++);
    }
  }
  return hash >>> 16;
}

export function work(device: BlockDevice, actions: readonly Action[], run: Run<number>): void {
  const open: number[] = [];
  for (const [i, a] of actions.entries()) {
    if (a.kind === 'write' || a.kind === 'fua') {
      const bytes = Buffer.concat(new Array<Uint8Array>(a.count).fill(content(a.value)));
      device.write(a.sector, bytes, { fua: a.kind === 'fua' });
    } else if (a.kind === 'flush') device.flush();
    else if (a.kind === 'begin') {
      open.push(i);
      run.begin(i);
    } else if (a.kind === 'end') {
      const op = open.shift();
      if (op !== undefined) run.acknowledge(op);
    } else if (a.kind === 'discard') device.discard(a.sector, 1);
    else if (a.kind === 'writeZeroes') device.writeZeroes(a.sector, 1);
  }
}

/** Narrowed by every acknowledgement, widened by every begin, as the contract of scenarios asks for. */
export function allows(observation: number, acknowledged: number, inFlight: number): boolean {
  return observation % 8 >= acknowledged - inFlight;
}

export const small512e: DiskProfile = { ...profiles['512e'], name: 'small 512e', physicalSectorBytes: 1024 };
export const coarse: DiskProfile = { ...profiles.harsh, name: 'coarse tears', tearStepBytes: 256 };
