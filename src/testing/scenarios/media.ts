import type { KeyValueOp, Scenario } from '../../explore/index.ts';
import type { MediaFaultKind } from '../../faults/index.ts';
import { type CommitMode, type StoreRules, soundRules } from '../../statefs/index.ts';
import { batch, put } from '../bugs/bug.ts';
import { storeScenario } from '../bugs/scenario.ts';
import { stateFsStore } from '../bugs/statefs-store.ts';
import type { Found } from '../bugs/store.ts';

/** Stores without a rule that only a bad medium needs, and the kinds of faults that show it. */
export const mediaBreaks: Readonly<Record<string, MediaBreak>> = {
  'lost-superblocks': {
    what: 'a life of the log whose superblock was lost is not looked for',
    rules: { ...soundRules, lostSuperblocks: false },
    kinds: ['lost-write', 'stale-read', 'misdirected-write'],
  },
  strays: {
    what: 'frames in the wrong place tell nothing',
    rules: { ...soundRules, strays: false },
    kinds: ['misdirected-write'],
  },
  unreadable: {
    what: 'what the medium does not give is taken for a torn tail',
    rules: { ...soundRules, unreadable: false },
    kinds: ['hung-request'],
  },
};

export interface MediaBreak {
  readonly what: string;
  readonly rules: StoreRules;
  readonly kinds: readonly MediaFaultKind[];
}

export interface MediaScenarioOptions {
  readonly commit?: CommitMode;
  readonly rules?: StoreRules;
}

/**
 * statefs for a medium that does wrong: right bytes or a detected error, and what was acknowledged and can't be read is
 * reported. The oracle is that of docs/disk-model.md; on a sound medium it asks for as much as the other scenarios.
 */
export function mediaScenario(options: MediaScenarioOptions = {}): Scenario<KeyValueOp, Found> {
  const steps = [
    put('a', 1),
    'reopen' as const,
    batch(put('b', 2), { kind: 'delete', key: 'a' }),
    'checkpoint' as const,
    put('a', 3),
  ];
  return {
    ...storeScenario(stateFsStore(options), steps, { name: 'media' }),
    description: 'puts, a restart, a transaction and a scrub, with the oracle of faults: for --faults',
  };
}
