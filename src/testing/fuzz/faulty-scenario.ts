import { messageOf, Sfc32 } from '../../core/index.ts';
import type { KeyValueOp, Scenario } from '../../explore/index.ts';
import { profiles } from '../../faults/index.ts';
import { type CommitMode, soundRules } from '../../statefs/index.ts';
import { RESTART } from '../bugs/oracle.ts';
import { storeScenario } from '../bugs/scenario.ts';
import { stateFsStore } from '../bugs/statefs-store.ts';
import type { Found, Step } from '../bugs/store.ts';
import type { FuzzCase, FuzzPart, FuzzStep } from './case.ts';
import { PathWatch } from './recovery-path.ts';
import type { FuzzScenarioOptions } from './scenario.ts';
import { describeOp } from './words.ts';

const PROBE_KEY = '/state/fuzz/probe';

/**
 * A random workload on statefs, on a medium that does wrong: right bytes or a detected error, and what was acknowledged
 * and can't be read is reported (docs/disk-model.md has the oracle). Every put is durable, and a sync is a scrub.
 */
export function faultyScenario(
  theCase: FuzzCase,
  name: string,
  { rules = soundRules, onPath }: FuzzScenarioOptions,
): Scenario<KeyValueOp, Found> {
  const commits = new Map<KeyValueOp, CommitMode>();
  const steps = theCase.steps.map((step) => stepOf(step, commits));
  const watch = new PathWatch();
  let isRecovering = false;
  const store = stateFsStore({
    rules,
    prefix: '',
    sectorCount: theCase.diskBytes / 512,
    commitOf: (op) => commits.get(op),
    onEvent: (event) => watch.note(event),
    through: (device) => {
      watch.begin();
      return device;
    },
    onOpen: (open) => {
      if (isRecovering) onPath?.(`${theCase.faults?.kind} ${watch.path(open.stats())}`);
    },
  });
  const { damagesPhysicalSector, tearStepBytes } = profiles[theCase.profile];
  // A cut may spoil the superblock copy that is being written: then the other one is all there is. A group that goes
  // astray may be long enough to hit both.
  const isOnce = damagesPhysicalSector || tearStepBytes > 0;
  const mayRefuse = isOnce || theCase.faults?.kind === 'misdirected-write';
  const scenario = storeScenario(store, steps, { name, probeKey: PROBE_KEY, mayRefuse });
  let workFailure: string | undefined;
  return {
    ...scenario,
    description: 'a random workload on statefs, with a fault of the medium',
    workload: (device, run) => {
      workFailure = undefined;
      isRecovering = false;
      try {
        scenario.workload(device, run);
      } catch (error) {
        // An error that says so is how a store may end; anything else is none of a store's.
        workFailure = `the workload failed: ${messageOf(error)}`;
      }
    },
    recover: (device, run) => {
      isRecovering = true;
      return scenario.recover(device, run);
    },
    invariant: (found, history) => {
      if (workFailure !== undefined) throw new Error(workFailure);
      scenario.invariant(found, history);
    },
    describe: (op) => (op === RESTART ? 'restart' : describeOp(op)),
  };
}

/** @param commits where to note how the operation is committed */
function stepOf(step: FuzzStep, commits: Map<KeyValueOp, CommitMode>): Step {
  if (!('key' in step) && !('parts' in step)) return step.do === 'sync' ? 'checkpoint' : step.do;
  const op = opOf(step);
  if ('commit' in step) commits.set(op, step.commit);
  return op;
}

function opOf(step: Extract<FuzzStep, { key: string } | { parts: unknown }>): KeyValueOp {
  if (step.do === 'transaction') return { kind: 'transaction', ops: step.parts.map(changeOf) };
  return changeOf(step.do === 'delete' ? { key: step.key } : step);
}

function changeOf(part: FuzzPart): KeyValueOp {
  const { key } = part;
  return 'bytes' in part ? { kind: 'put', key, value: bytesOf(part) } : { kind: 'delete', key };
}

/** What a put stores: no two seeds give the same. */
export function bytesOf({ bytes, seed }: { readonly bytes: number; readonly seed: number }): Uint8Array {
  const value = new Uint8Array(bytes);
  new Sfc32(seed).fill(value);
  return value;
}
