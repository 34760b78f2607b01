import { describe, expect, test } from 'vitest';
import { explore } from '../../src/explore/index.ts';
import type { MediaFaultKind } from '../../src/faults/index.ts';
import { type CommitMode, type StoreRules, soundRules } from '../../src/statefs/index.ts';
import { put } from '../../src/testing/bugs/bug.ts';
import { storeScenario } from '../../src/testing/bugs/scenario.ts';
import { stateFsStore } from '../../src/testing/bugs/statefs-store.ts';

function exploreUnder(kind: MediaFaultKind, rules: StoreRules, commit: CommitMode, depth: number) {
  const store = stateFsStore({ rules, commit });
  const scenario = storeScenario(store, [put('a', 1), put('b', 2)], { name: `statefs under ${kind}` });
  return explore(scenario, { depth, media: { kinds: [kind] }, maxViolations: 1 });
}

const silent: readonly MediaFaultKind[] = [
  'lost-write',
  'stale-read',
  'misdirected-write',
  'lying-flush',
  'hung-request',
];

describe('statefs on a medium that does wrong in silence: right bytes or an error, two cuts deep', () => {
  test.each(silent.flatMap((kind) => (['checksummed', 'ordered'] as const).map((commit) => [kind, commit] as const)))(
    '%s, %s',
    (kind, commit) => {
      const result = exploreUnder(kind, soundRules, commit, 2);
      expect(result.violations).toEqual([]);
      expect(result.complete).toBe(true);
      expect(result.recoveries).toBeGreaterThan(100);
    },
  );
});

describe('without a rule the exploration finds the loss', () => {
  test.each([
    ['lostSuperblocks', 'lost-write', 'checksummed', 1],
    ['lostSuperblocks', 'stale-read', 'checksummed', 1],
    ['lostSuperblocks', 'misdirected-write', 'checksummed', 1],
    ['lostSuperblocks', 'lying-flush', 'checksummed', 2],
    ['strays', 'misdirected-write', 'checksummed', 1],
    ['strays', 'lost-write', 'ordered', 2],
    ['unreadable', 'hung-request', 'checksummed', 1],
  ] as const)('%s, under %s, %s', (rule, kind, commit, depth) => {
    const result = exploreUnder(kind, { ...soundRules, [rule]: false }, commit, depth);
    expect(result.violations[0]?.message).toMatch(/^expected .*, got /);
  });
});
