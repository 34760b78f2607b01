import { describe, expect, test } from 'vitest';
import { type ProfileName, profiles } from '../../src/faults/index.ts';
import { type Barrier, type RecoveryRow, type StoreRules, soundRules } from '../../src/statefs/index.ts';
import { brokenRules } from '../../src/testing/index.ts';
import { holdProperty, isCaught, isReplaying } from './replay.ts';
import { modelProperty } from './statefs-commands.ts';
import { type Command, runCommands, Totals } from './statefs-world.ts';

/** Those that single puts and deletes need. */
const simpleRules = Object.entries(brokenRules).filter(([, { scenario }]) => scenario === 'boot-control');
const FILE = 'test/property/statefs.test.ts';
const profileNames = Object.keys(profiles) as ProfileName[];

/** What recovery decides about a torn end of the log. `torn-group` takes a temp frame of more sectors than one. */
const tailRows: RecoveryRow[] = ['committed', 'committed-tail', 'never-committed', 'torn-temp', 'torn-payload', 'end'];

const stacks = profileNames.flatMap((profile) =>
  (['virtio', 'direct'] as const).map((through) => ({
    profile,
    through,
    holds: `follows a map on ${profile}, ${through}`,
    reaches: `fires every fault and draws every end of the log on ${profile}, ${through}`,
  })),
);

describe('statefs, cut anywhere between and within commands,', () => {
  test.each(stacks)('$holds', ({ profile, through, holds }) => {
    holdProperty(FILE, holds, modelProperty(profile, through, soundRules, new Totals()), { numRuns: 200 });
  });
});

/** What was asked for did happen. In runs that are the same every time: what a new seed draws is left to chance. */
describe('the same property, on a fixed seed,', () => {
  test.each(stacks)('$reaches', ({ profile, through, reaches }) => {
    const totals = new Totals();
    holdProperty(FILE, reaches, modelProperty(profile, through, soundRules, totals), { numRuns: 200, seed: 1 });
    if (isReplaying) return;
    expect(totals.cutsInCommands).toBeGreaterThan(20);
    expect(totals.cutsInRecovery).toBeGreaterThan(2);
    expect(totals.lostSectors).toBeGreaterThan(20);
    expect(totals.tornWrites).toBeGreaterThan(5);
    expect(totals.fullStores).toBeGreaterThan(0);
    expect([...totals.rows]).toEqual(expect.arrayContaining(tailRows));
    expect(totals.tornSectors > 0).toBe(profile === 'harsh');
    expect(totals.damagedPhysicalSectors > 0).toBe(profile === '512e');
  });
});

describe('found once:', () => {
  test.each(profileNames)('an unsynced put does not come back over an ordered one, on %s', (profile) => {
    const commands: Command[] = [
      { kind: 'put', key: '/state/a', size: 0 },
      { kind: 'putAtomic', key: '/state/a', size: 1, commit: 'ordered' },
    ];
    for (const choices of [{ choose: () => 0 }, { choose: (options: number) => options - 1 }]) {
      const setup = { profile, through: 'direct', diskBytes: 1024 * 1024, choices, rules: soundRules } as const;
      runCommands(setup, commands, new Totals());
    }
  });

  test('a store closes with an error where compaction failed beside a put that was never synced', () => {
    const put = { kind: 'putAtomic', key: '/state/a', size: 1700, commit: 'ordered' } as const;
    const commands: Command[] = [
      put,
      { ...put, size: 511 },
      put,
      { kind: 'put', key: '/state/a', size: 1700 },
      { kind: 'cutAt', nth: 3, when: 'before', again: 0 },
      { kind: 'put', key: '/state/a', size: 1985 },
      { kind: 'reopen' },
    ];
    // A cut loses all that it can.
    const choices = { choose: (options: number) => options - 1 };
    const totals = new Totals();
    runCommands(
      { profile: 'nvme-512', through: 'direct', diskBytes: 48 * 1024, choices, rules: soundRules },
      commands,
      totals,
    );
    expect(totals.cutsInCommands).toBe(1);
  });
});

function without(barrier: Barrier): StoreRules {
  // Recovery makes up for a missing life barrier where it notices the life that no superblock tells of.
  const lostSuperblocks = barrier !== 'life';
  return { ...soundRules, lostSuperblocks, barriers: { ...soundRules.barriers, [barrier]: false } };
}

/** Every rule that a store can go without, and whether it then loses anything. */
const variants: [name: string, rules: StoreRules][] = [
  ...simpleRules.map(([name, { rules }]): [string, StoreRules] => [name, rules]),
  ['life barrier', without('life')],
  ['open barrier', without('open')],
  ['close barrier', without('close')],
];

describe('a model gone blind would be noticed:', () => {
  test.each(variants)('it sees a store without its %s', (_name, rules) => {
    expect(isCaught(modelProperty('nvme-512', 'direct', rules, new Totals()), { numRuns: 2000, seed: 1 })).toBe(true);
  });
});
