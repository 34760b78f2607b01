import { describe, test } from 'vitest';
import type { BlockDevice } from '../../src/blockdev/index.ts';
import { undisturbed } from '../../src/core/index.ts';
import { Attempt, type AttemptSetup } from '../../src/explore/attempt.ts';
import { History, type Scenario } from '../../src/explore/index.ts';
import { RecoveryDisk } from '../../src/explore/recovery-disk.ts';
import { RecordingDisk } from '../../src/explore/trace.ts';
import { DiskState, type ProfileName, profiles } from '../../src/faults/index.ts';
import { deviceConformance } from '../../src/testing/index.ts';

const SECTORS = 300;

function stateOf(profile: ProfileName): DiskState {
  return new DiskState(profiles[profile], SECTORS, false);
}

function recordingDisk(state: DiskState): BlockDevice {
  return new RecordingDisk(state);
}

function recoveryDisk(state: DiskState): BlockDevice {
  const setup: AttemptSetup = {
    scenario: {} as Scenario,
    state,
    base: state.checkpoint(),
    history: new History(),
    choices: undisturbed,
    captures: true,
    sharedCount: -1,
    maxSteps: Number.POSITIVE_INFINITY,
    linear: false,
    media: undefined,
    log: undefined,
    cursor: undefined,
  };
  return new RecoveryDisk(setup, new Attempt(setup));
}

/** What a scenario is given has to be a disk like any other. */
for (const [kind, make] of [
  ['the disk of a recording', recordingDisk],
  ['the disk of a recovery', recoveryDisk],
] as const) {
  describe.each(Object.keys(profiles) as ProfileName[])(`${kind}, %s`, (profile) => {
    const states = new WeakMap<BlockDevice, DiskState>();
    const on = (state: DiskState): BlockDevice => {
      const device = make(state);
      states.set(device, state);
      return device;
    };
    const reopen = (device: BlockDevice): BlockDevice => {
      device.close();
      return on(states.get(device) as DiskState);
    };
    for (const { name, skip, run } of deviceConformance(() => on(stateOf(profile)), { stepCount: 150, reopen })) {
      if (skip === undefined) test(name, run);
      else test.skip(`${name} (${skip})`, run);
    }
  });
}
