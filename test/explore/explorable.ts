import type { Explored, Scenario } from '../../src/explore/index.ts';
import { brokenRules, stateFsScenario, workloads } from '../../src/testing/index.ts';
import { twins } from './twins.ts';

const sector = new Uint8Array(512);
/** Its recovery waits for what never comes. */
const waiting: Scenario<string, number> = {
  name: 'waiting',
  disk: { sectorCount: 16 },
  format: (disk) => disk.write(0, sector.fill(0)),
  workload: (disk, run) => {
    run.begin('a');
    disk.write(0, sector.fill(1));
    disk.flush();
    run.acknowledge('a');
  },
  recover: () => new Promise<number>(() => {}),
  invariant: () => {},
};

/** For threads: a scenario that ships with powercut, with a rule taken away or without; `twins`; or `waiting`. */
export function explorable(data: unknown): Explored {
  const { name, broken } = data as { name: string; broken?: string };
  if (name === 'twins') return { scenario: twins(broken === undefined) as Scenario };
  if (name === 'waiting') return { scenario: waiting as Scenario };
  const rules = broken === undefined ? undefined : brokenRules[broken]?.rules;
  const workload = workloads[name]?.();
  if (workload === undefined) throw new Error(`there is no workload ${name}`);
  return { scenario: stateFsScenario(workload, rules === undefined ? {} : { rules }) as Scenario };
}
