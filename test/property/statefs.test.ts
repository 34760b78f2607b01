import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Choices } from '../../src/core/index.ts';
import { type ProfileName, profiles } from '../../src/faults/index.ts';
import {
  type Barrier,
  type CommitMode,
  type RecoveryRow,
  type StoreRules,
  soundRules,
} from '../../src/statefs/index.ts';
import { brokenRules } from '../../src/testing/index.ts';
import { holdProperty, isCaught, isReplaying } from './replay.ts';
import { type Command, runCommands, type Through, Totals } from './statefs-world.ts';

/** Those that single puts and deletes need. */
const simpleRules = Object.entries(brokenRules).filter(([, { scenario }]) => scenario === 'boot-control');
const FILE = 'test/property/statefs.test.ts';
const profileNames = Object.keys(profiles) as ProfileName[];

/** None; within a sector; about its edge; about the largest inline value; extents of one frame, two, and several. */
const sizes = fc.oneof(
  fc.constantFrom(0, 1, 31, 32, 300, 511, 512, 513, 1024, 1983, 1984, 1985, 2048, 3968, 3969, 4096, 9000),
  fc.integer({ min: 1700, max: 1900 }),
  fc.integer({ min: 0, max: 6000 }),
);
const LONG_KEY = `/state/long/${'k'.repeat(243)}`;
const key = fc.constantFrom('/state/a', '/state/b', '/state/boot/control', '/state/boot/c', LONG_KEY);
const commit = fc.constantFrom<CommitMode>('ordered', 'checksummed');

/** Mostly the power fails once. */
const again = fc.oneof(
  { weight: 2, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 6 }) },
);

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('putAtomic' as const), key, size: sizes, commit }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('put' as const), key, size: sizes }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('delete' as const), key, commit }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('get' as const, 'list' as const), key }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('sync' as const, 'reopen', 'kill') }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cut' as const), again }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('cutAt' as const),
      nth: fc.integer({ min: 1, max: 24 }),
      when: fc.constantFrom('before' as const, 'during'),
      again,
    }),
  },
);

/** The answers are taken in turn, over and over; all zero is a disk that kept everything. */
function choicesFrom(answers: readonly number[]): Choices {
  let asked = 0;
  return { choose: (options) => (answers[asked++ % answers.length] as number) % options };
}

function modelProperty(profile: ProfileName, through: Through, rules: StoreRules, totals: Totals) {
  const answers = fc.array(fc.nat({ max: 11 }), { minLength: 1, maxLength: 97, size: 'max' });
  // A store that is soon full, and one that is not.
  const small = profiles[profile].physicalSectorBytes === 512 ? 96 : 192;
  const diskBytes = fc.constantFrom(small * 1024, 1024 * 1024);
  const commands = fc.array(command, { minLength: 1, maxLength: 40, size: 'max' });
  return fc.property(commands, answers, diskBytes, (list, values, bytes) => {
    const setup = { profile, through, diskBytes: bytes, choices: choicesFrom(values), rules };
    runCommands(setup, list, totals);
  });
}

/** What recovery decides about a torn end of the log. `torn-group` takes a temp frame of more sectors than one. */
const tailRows: RecoveryRow[] = ['committed', 'committed-tail', 'never-committed', 'torn-temp', 'torn-payload', 'end'];

const stacks = profileNames.flatMap((profile) =>
  (['virtio', 'direct'] as const).map((through) => ({
    profile,
    through,
    name: `follows a map on ${profile}, ${through}`,
  })),
);

describe('statefs, cut anywhere between and within commands,', () => {
  test.each(stacks)('$name', ({ profile, through, name }) => {
    const totals = new Totals();
    holdProperty(FILE, name, modelProperty(profile, through, soundRules, totals), { numRuns: 200 });
    if (isReplaying) return;
    // What was asked for did happen.
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

function without(barrier: Barrier): StoreRules {
  return { ...soundRules, barriers: { ...soundRules.barriers, [barrier]: false } };
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
