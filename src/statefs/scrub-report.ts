/** What a scrub looks at: the superblock copies, the frames of the log, the values of live keys. */
export type ScrubPart = 'superblock' | 'log' | 'value';

/**
 * `rewritten`: the superblock copy was written anew in its own place; `copied`: the value was put again from a second
 * copy; `moved`: all that is live was copied away from the damage.
 */
export type ScrubMend = 'rewritten' | 'copied' | 'moved';

/** Something that a scrub found damaged. */
export interface ScrubFinding {
  readonly part: ScrubPart;
  /** First sector of the partition that it concerns, and the same in bytes. */
  readonly sector: number;
  readonly offsetBytes: number;
  /** The keys that it concerns, as far as they are known. */
  readonly keys: readonly string[];
  readonly what: string;
  /** What can't be had any more, in words; 'nothing' where everything can, and a scrub that may write puts it right. */
  readonly lost: string;
  /** How it was put right; undefined: it was not. */
  readonly mended: ScrubMend | undefined;
}

/** What one pass of a scrub came to. */
export interface ScrubReport {
  /** Bytes that were read from the device and held to their checksums. */
  readonly verifiedBytes: number;
  /** Live values that verify. */
  readonly verifiedValues: number;
  /** How many things were found damaged, and how many of them were put right. */
  readonly damaged: number;
  readonly mended: number;
  /** In the order in which they were found; the first thousand. Events tell of all. */
  readonly findings: readonly ScrubFinding[];
}
