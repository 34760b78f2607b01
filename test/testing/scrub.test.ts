import { describe, expect, test } from 'vitest';
import { type ExploreResult, explore, replay } from '../../src/explore/index.ts';
import { profiles } from '../../src/faults/index.ts';
import { storeScenario } from '../../src/testing/bugs/scenario.ts';
import { stateFsStore } from '../../src/testing/bugs/statefs-store.ts';
import type { Step } from '../../src/testing/bugs/store.ts';
import { scrubBreaks, scrubCases, scrubScenario } from '../../src/testing/index.ts';

function expectClean(result: ExploreResult): void {
  expect(result.violations).toEqual([]);
  expect(result).toMatchObject({ complete: true, clean: true });
}

describe('a scrub beside puts in flight, cut at any point, two cuts deep', () => {
  test.each(scrubCases)('after the medium spoiled: %s', (damage) => {
    const result = explore(scrubScenario(damage));
    expectClean(result);
    // The scrub writes, and was cut while it did.
    expect(result.images).toBeGreaterThan(BigInt(result.crashPoints));
  });

  test.each(['4kn', '512e'] as const)('of superblocks on %s', (profile) => {
    for (const damage of ['superblock-newer', 'superblock-older'] as const) {
      expectClean(explore(scrubScenario(damage), { profile }));
    }
  });

  test('of superblocks on a medium that tears sectors', () => {
    const profile = { ...profiles.harsh, name: 'harsh-256', tearStepBytes: 256 };
    for (const damage of ['superblock-newer', 'superblock-older'] as const) {
      expectClean(explore(scrubScenario(damage), { profile, depth: 1 }));
    }
  });

  test.each(Object.entries(scrubBreaks))(
    '%s is caught, and its token repeats it',
    (_name, { rules, scenario, profile }) => {
      const broken = scrubScenario(scenario, { rules });
      const { violations } = explore(broken, { profile, maxViolations: 1 });
      expect(violations).toHaveLength(1);
      expect(replay(broken, violations[0]?.token as string).violation).toBe(violations[0]?.message);
    },
  );
});

/** Correct bytes or a reported loss, never other bytes: the oracle of the benchmark's stores. */
describe('a scrub on a medium that goes bad under it, two cuts deep', () => {
  const put = (key: string, fill: number): Step => ({ kind: 'put', key, value: new Uint8Array(40).fill(fill) });
  const steps = [put('a', 1), put('a', 2), 'checkpoint', put('b', 3)] as const;
  const media = { rotStepBytes: 256 };

  test.each(['bit-rot', 'latent-error', 'read-error', 'write-error'] as const)('%s', (kind) => {
    const result = explore(storeScenario(stateFsStore(), steps, { name: kind }), {
      media: { ...media, kinds: [kind] },
      maxRecoveries: 100_000,
    });
    expectClean(result);
    expect(result.faults[kind]).toBeGreaterThan(0);
  });
});
