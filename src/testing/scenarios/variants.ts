import { type CommitMode, type StoreRules, soundRules } from '../../statefs/index.ts';

/** A store with a rule taken away. */
export interface BrokenRule {
  readonly what: string;
  readonly rules: StoreRules;
  /** The scenario, and how it commits, that can't go without the rule. */
  readonly scenario: string;
  readonly commit: CommitMode;
}

/** Stores with one rule taken away. Each loses data, and the explorer must show it. */
export const brokenRules: Readonly<Record<string, BrokenRule>> = {
  'temp-flush': {
    what: 'no flush between temp frames and an ordered commit',
    rules: { ...soundRules, barriers: { ...soundRules.barriers, temp: false } },
    scenario: 'boot-control',
    commit: 'ordered',
  },
  'commit-flush': {
    what: 'success is reported before the flush',
    rules: { ...soundRules, barriers: { ...soundRules.barriers, commit: false } },
    scenario: 'boot-control',
    commit: 'checksummed',
  },
  checksum: {
    what: 'frames and payloads are not held to their checksums',
    rules: { ...soundRules, checksums: false },
    scenario: 'boot-control',
    commit: 'checksummed',
  },
  epoch: {
    what: 'a new life of the log takes no new epoch',
    rules: { ...soundRules, epochs: false },
    scenario: 'boot-control',
    commit: 'checksummed',
  },
  'whole-transaction': {
    what: 'each frame of a commit takes effect by itself',
    rules: { ...soundRules, wholeTransactions: false },
    scenario: 'long-transaction',
    commit: 'checksummed',
  },
  'move-flush': {
    what: 'the log moves before what compaction copied is durable',
    rules: { ...soundRules, barriers: { ...soundRules.barriers, move: false } },
    scenario: 'compaction',
    commit: 'checksummed',
  },
  tombstone: {
    what: 'compaction forgets deletions of what it had copied',
    rules: { ...soundRules, tombstones: false },
    scenario: 'compaction',
    commit: 'checksummed',
  },
  'region-epoch': {
    what: 'no epoch tells old frames in a region that is used again',
    rules: { ...soundRules, epochs: false },
    scenario: 'region-reuse',
    commit: 'checksummed',
  },
  'quota-recount': {
    what: 'recovery does not count towards the quotas what it finds',
    rules: { ...soundRules, recoveredUsage: false },
    scenario: 'quota',
    commit: 'checksummed',
  },
};
