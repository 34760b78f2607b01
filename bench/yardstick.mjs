import { hash } from 'node:crypto';
import { summarize } from './stats.mjs';
import { fixed, times } from './table.mjs';

/**
 * What the reference machine takes for work that no line of ours changes (docs/dependencies.md). The goals in absolute
 * figures were set there; on a machine of half its speed they mean something else.
 */
const REFERENCE_SHA_NS = 800;
const HASHES_A_ROUND = 20_000;
const ROUNDS = 9;

/** @returns how fast this machine is, with the reference machine at 1 */
export function measureYardstick() {
  const block = new Uint8Array(64).fill(7);
  const rounds = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < HASHES_A_ROUND; i++) hash('sha256', block, 'buffer');
    // The first round compiles.
    if (round > 0) rounds.push(Number(process.hrtime.bigint() - start) / HASHES_A_ROUND);
  }
  const shaNs = summarize(rounds).median;
  return { shaNs, speed: REFERENCE_SHA_NS / shaNs };
}

export function renderYardstick({ shaNs, speed }) {
  return (
    `yardstick: SHA-256 of 64 bytes through node:crypto in ${fixed(shaNs, 0)} ns, ${times(speed)} the speed of the ` +
    'reference machine, on which the goals in absolute figures were set'
  );
}
