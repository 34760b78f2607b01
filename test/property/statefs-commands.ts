/** Commands for a store on a disk that loses power, and the property that it follows a map under any of them. */
import fc from 'fast-check';
import type { Choices } from '../../src/core/index.ts';
import { type ProfileName, profiles } from '../../src/faults/index.ts';
import type { CommitMode, StoreRules } from '../../src/statefs/index.ts';
import { type Command, runCommands, type Through, type Totals } from './statefs-world.ts';

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

/** Stands for the last option: a sector that kept nothing, or a damaged one. */
const LAST = -1;

/**
 * What a cut left of a sector. Where all answers were alike, sectors that all survive but one would hardly be drawn:
 * under `harsh` most of the options are tears.
 */
const answer = fc.oneof(
  { weight: 4, arbitrary: fc.constant(0) },
  { weight: 2, arbitrary: fc.constant(LAST) },
  { weight: 4, arbitrary: fc.nat({ max: 11 }) },
);

/** The answers are taken in turn, over and over; all zero is a disk that kept everything. */
function choicesFrom(answers: readonly number[]): Choices {
  let asked = 0;
  return {
    choose: (options) => {
      const given = answers[asked++ % answers.length] as number;
      return given === LAST ? options - 1 : given % options;
    },
  };
}

/** The property: commands on a store and on a map, cut as `answers` say. */
export function modelProperty(profile: ProfileName, through: Through, rules: StoreRules, totals: Totals) {
  const answers = fc.array(answer, { minLength: 1, maxLength: 97, size: 'max' });
  // A store that a few large values fill, and one that they do not.
  const small = profiles[profile].physicalSectorBytes === 512 ? 48 : 96;
  const diskBytes = fc.constantFrom(small * 1024, 1024 * 1024);
  const commands = fc.array(command, { minLength: 1, maxLength: 40, size: 'max' });
  return fc.property(commands, answers, diskBytes, (list, values, bytes) => {
    const setup = { profile, through, diskBytes: bytes, choices: choicesFrom(values), rules };
    runCommands(setup, list, totals);
  });
}
