import { type StoreRules, soundRules } from '../../statefs/index.ts';

/** Stores with one rule taken away. Each loses data, and the explorer must show it. */
export const brokenRules: Readonly<Record<string, { readonly what: string; readonly rules: StoreRules }>> = {
  'temp-flush': {
    what: 'no flush between temp frames and an ordered commit',
    rules: { ...soundRules, barriers: { ...soundRules.barriers, temp: false } },
  },
  'commit-flush': {
    what: 'success is reported before the flush',
    rules: { ...soundRules, barriers: { ...soundRules.barriers, commit: false } },
  },
  checksum: {
    what: 'frames and payloads are not held to their checksums',
    rules: { ...soundRules, checksums: false },
  },
  epoch: {
    what: 'a new life of the log takes no new epoch',
    rules: { ...soundRules, epochs: false },
  },
};
