/**
 * The rules that make the store sound, one switch each. `soundRules` is what every store runs with. The tests and the
 * seeded-bug benchmark take one away and see the explorer object: a checker that went blind would be noticed.
 */
export interface StoreRules {
  /** Flushes the device at each named barrier of the write path. */
  readonly barriers: Readonly<Record<Barrier, boolean>>;
  /** Frames and payloads must match their checksums and digests. */
  readonly checksums: boolean;
  /** A new life of the log takes a new epoch, durable before its first frame, and replay holds frames to it. */
  readonly epochs: boolean;
  /** A transaction whose commit has several frames takes effect once all of them are there, and not frame by frame. */
  readonly wholeTransactions: boolean;
  /** Compaction carries along the deletion of what it had copied before. */
  readonly tombstones: boolean;
  /** Recovery counts what it finds towards the quotas. */
  readonly recoveredUsage: boolean;
  /** Frames of a later life than any superblock tells of show that one was lost: the log goes on with them. */
  readonly lostSuperblocks: boolean;
  /** A frame, or a superblock, in another one's place tells of what it was written after. */
  readonly strays: boolean;
  /** What can't be read is not taken for torn: a device that fails as a whole ends `open`, a sector is reported. */
  readonly unreadable: boolean;
  /** A superblock copy that was lost and is written anew is read back, before the write that goes over the other one. */
  readonly verifiedRewrites: boolean;
  readonly scrub: ScrubRules;
}

/** What makes a scrub sound. */
export interface ScrubRules {
  /** It looks at the device, and not at what the store holds in memory. */
  readonly reads: boolean;
  /** A superblock copy that is wrong is written anew in its own place: the other one is right, and may be all there is. */
  readonly ownPlace: boolean;
  /** What was written anew is read again before it is reported as mended. */
  readonly verifies: boolean;
}

/**
 * `open`: before recovery reads, so that it reports nothing that the cache could still lose. `life`: the superblock of
 * a new life before its first frame. `temp`: temp frames before an ordered commit. `commit`: before success is
 * reported. `move`: what compaction copied, before the superblock that makes it the log. `moved`: that superblock, before
 * the next write. `scrub`: a superblock that was written anew. `close`: around the last superblock.
 */
export type Barrier = 'open' | 'life' | 'temp' | 'commit' | 'move' | 'moved' | 'scrub' | 'close';

export const soundRules: StoreRules = {
  barriers: { open: true, life: true, temp: true, commit: true, move: true, moved: true, scrub: true, close: true },
  checksums: true,
  epochs: true,
  wholeTransactions: true,
  tombstones: true,
  recoveredUsage: true,
  lostSuperblocks: true,
  strays: true,
  unreadable: true,
  verifiedRewrites: true,
  scrub: { reads: true, ownPlace: true, verifies: true },
};
