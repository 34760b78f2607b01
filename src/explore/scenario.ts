import type { BlockDevice } from '../blockdev/index.ts';
import { briefly } from './brief.ts';
import type { History } from './history.ts';

/** What a workload tells of its operations. An operation is known by its identity: pass the same object or string. */
export interface Run<Op> {
  /** The operation is about to be issued: from now on its effect may show. */
  begin(op: Op): void;
  /** It was reported done: from now on its effect must survive. */
  acknowledge(op: Op): void;
  /** It was reported failed: its effect must not show. */
  fail(op: Op): void;
}

/** What a recovery tells, beside what it does to the device. */
export interface RecoveryRun<Op, Observation> extends Run<Op> {
  /**
   * The recovery reports this to the world: it is checked at once, and pinned for all later recoveries. The value is
   * kept: do not change it afterwards.
   */
  observe(observation: Observation): void;
}

/**
 * A system to explore: it prepares a disk, works on it, and recovers after a cut at any point.
 *
 * What makes the exploration exact:
 * - `recover` is a function of what it reads from the device. No clock, no randomness, no state from run to run.
 * - `begin` only widens what the invariant allows; `acknowledge`, `fail` and `observe` only narrow it; a cut does
 *   neither; what was once observed may be observed again from the same disk.
 */
export interface Scenario<Op = unknown, Observation = unknown> {
  readonly name: string;
  readonly description?: string;
  readonly disk: {
    /** In units of 512 bytes; profiles with larger sectors get as many fewer, the same bytes. */
    readonly sectorCount: number;
  };
  /** Prepares the disk; all of it is durable before the workload starts. */
  format(device: BlockDevice): void | PromiseLike<void>;
  /** Runs once, without a cut, and is recorded; after a violation once more, to see whether it can be replayed. */
  workload(device: BlockDevice, run: Run<Op>): void | PromiseLike<void>;
  /**
   * Recovers from what it finds. It may write, and go on with operations of its own after {@link RecoveryRun.observe}.
   * What it returns is observed; undefined: it has observed already. To throw is a violation.
   */
  recover(
    device: BlockDevice,
    run: RecoveryRun<Op, Observation>,
  ): Observation | undefined | PromiseLike<Observation | undefined>;
  /** Throws, any error, where what a recovery observed contradicts the history. Synchronous; keeps neither argument. */
  invariant(observation: Observation, history: History<Op, Observation>): void;
  /** An operation in a few words, for reports. Default: the string itself, or JSON. */
  describe?(op: Op): string;
  /** False: the invariant does not know what a fault of the medium may do. Explorations with faults are refused then. */
  readonly knowsFaults?: boolean;
}

/** The operation in words. */
export function describeOp<Op>(scenario: Scenario<Op, never> | Scenario<Op>, op: Op): string {
  if (scenario.describe !== undefined) return scenario.describe(op);
  if (typeof op === 'string') return op;
  return briefly(op, 60);
}
